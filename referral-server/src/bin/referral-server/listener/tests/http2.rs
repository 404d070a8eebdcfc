//! Frames of HTTP/2.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns a frame of HTTP/2.
pub(super) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns requests for `/` on this number of HTTP/2 streams, after the settings. `method` is the HPACK byte
/// of the method, and `flags` are the flags of the frames.
pub(super) fn over_http2(method: u8, flags: u8, settings: &[u8], count: u8) -> Vec<u8> {
    let head = [&[method, 0x84, 0x86, 0x41, 9][..], b"localhost"].concat();
    let streams = (0..count).map(|index| frame(1, flags, 2 * index + 1, &head));
    [PREFACE, &frame(4, 0, 0, settings), &streams.collect::<Vec<_>>().concat()].concat()
}

/// Returns a ping of HTTP/2, and the response to a ping of hyper: a client that keeps its connection alive.
pub(super) fn keep_alive() -> Vec<u8> {
    /// Payload of all pings of h2 that a user of the crate sends, such as hyper.
    const USER_PING: [u8; 8] = [0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4];
    [frame(6, 0, 0, &[0; 8]), frame(6, 1, 0, &USER_PING)].concat()
}

/// Returns `GET /` on the first stream of HTTP/2, after the settings.
pub(super) fn get_over_http2(settings: &[u8]) -> Vec<u8> {
    over_http2(0x82, 5, settings, 1)
}
