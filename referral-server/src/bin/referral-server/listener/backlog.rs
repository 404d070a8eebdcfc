//! Connections that clients have opened and that the server has not accepted.

use tokio::net::TcpListener;

/// Makes the kernel ignore requests for new connections, as far as it can.
///
/// Closing a listener resets the connections in its backlog, and a client may have sent a request on each. A
/// connection that is opened between the last `accept` and the close would be lost. An ignored client tries
/// again a second later, gets a refusal, and can use another instance.
#[cfg(target_os = "linux")]
pub(super) fn ignore_new(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};

    // Classic BPF over the TCP header: drops packets with the flag SYN, and passes the others, which belong
    // to handshakes in progress. The codes are those of `linux/bpf_common.h`.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
        tracing::debug!(%error, "failed to attach the filter that drops new connections");
    }
}

/// Does nothing, because only Linux has such filters.
#[cfg(not(target_os = "linux"))]
pub(super) fn ignore_new(_: &TcpListener) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{io::ErrorKind, net::TcpStream, time::Duration};

    use super::*;

    #[tokio::test]
    async fn connections_in_the_backlog_are_accepted_and_new_ones_are_not_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let waiting = TcpStream::connect(address).expect("connected");
        ignore_new(&listener);
        // The kernel does not respond, so every attempt times out.
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(50)).expect_err("ignored");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer, waiting.local_addr().expect("an address"));
    }
}
