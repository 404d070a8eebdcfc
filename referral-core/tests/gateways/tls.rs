//! Certificates that a sender trusts.

use std::sync::Arc;

use rcgen::CertifiedKey;
use referral_core::sms::{SmsError, SmsSender as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs},
};

use crate::fake::{message, sender};

/// Starts a gateway for this host with a self-signed certificate. Returns its port and the certificate as
/// PEM.
async fn gateway(host: &str) -> (u16, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("self-signed certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .expect("matching key and certificate");
    let (acceptor, pem) = (TlsAcceptor::from(Arc::new(config)), cert.pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let port = listener.local_addr().expect("local address").port();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.expect("new connection");
            // A client that does not trust the certificate closes the connection.
            if let Ok(mut connection) = acceptor.accept(connection).await {
                let mut request = [0; 1024];
                let read = connection.read(&mut request).await.expect("readable");
                assert!(read > 0, "the request is not empty");
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
            }
        }
    });
    (port, pem)
}

#[tokio::test]
async fn only_configured_authorities_are_trusted_and_only_for_their_host() {
    let (port, pem) = gateway("127.0.0.1").await;
    let (other_port, other_pem) = gateway("gateway.example").await;
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("authorities.pem");
    std::fs::write(&file, pem + &other_pem).expect("written");

    let send = async |port: u16, more: &str| {
        let config = format!("url = \"https://127.0.0.1:{port}/\"\nmethod = \"GET\"\n{more}");
        sender(&config).expect("valid configuration").send(&message()).await.map(drop)
    };
    let trusts = format!("ca_file = {file:?}");
    let unknown = send(port, "").await;
    let named = send(port, &trusts).await;
    let of_another = send(other_port, &trusts).await;
    named.expect("accepted");
    for refused in [unknown, of_another] {
        // It is certain that nothing was sent.
        let is_it = |actual: &str| actual.starts_with("failed to connect: invalid peer certificate");
        assert!(matches!(&refused, Err(SmsError::Temporary(actual)) if is_it(actual)), "{refused:?}");
    }
}
