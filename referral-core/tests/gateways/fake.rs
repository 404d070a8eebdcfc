//! Gateways for tests: one with a fixed response, and one with an incomplete response.

use referral_core::{
    OneTimeCode, PhoneNumber,
    sms::{
        Notice, Receipt, SmsError, SmsMessage, SmsNotice,
        http::{ConfigError, GatewayConfig, HttpSender},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use uuid::Uuid;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

pub(crate) const ID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
pub(crate) const PHONE: &str = "+79608543017";
pub(crate) const CODE: &str = "4711";
pub(crate) const TEXT: &str = "4711: код & co";

pub(crate) fn message() -> SmsMessage {
    message_with(TEXT)
}

pub(crate) fn message_with(text: &str) -> SmsMessage {
    let phone = PhoneNumber::parse(PHONE, None).expect("valid number");
    SmsMessage::new(ID, phone, OneTimeCode::from_static(CODE), text.into(), None)
}

/// Returns the notice that the phone was changed.
pub(crate) fn notice() -> SmsNotice {
    let phone = PhoneNumber::parse(PHONE, None).expect("valid number");
    let notice = Notice::PhoneChanged { new: phone.clone() };
    SmsNotice::new(ID, phone, notice, "Your number was changed".into(), None)
}

/// Returns a sender for the configured gateway that uses no proxy.
pub(crate) fn sender(config: &str) -> Result<HttpSender, ConfigError> {
    HttpSender::new(parse(&format!("proxy = \"none\"\n{config}"))?)
}

pub(crate) fn parse(config: &str) -> Result<GatewayConfig, ConfigError> {
    GatewayConfig::try_from(config.parse::<toml::Table>().expect("TOML"))
}

/// Returns the result of a message in short form.
pub(crate) fn meaning(sent: &Result<Receipt, SmsError>) -> String {
    match sent {
        Ok(receipt) => format!("accepted {}", receipt.message_id.as_deref().unwrap_or("-")),
        Err(SmsError::Permanent(reason)) => format!("permanent: {reason}"),
        Err(SmsError::Temporary(reason)) => format!("temporary: {reason}"),
        Err(SmsError::Busy { reason, retry_after }) => format!("busy {retry_after:?}: {reason}"),
        Err(SmsError::Unknown(reason)) => format!("unknown: {reason}"),
        Err(error) => error.to_string(),
    }
}

/// Returns a gateway that sends this response to every request.
pub(crate) async fn gateway(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

/// Returns the only request that was received.
pub(crate) async fn received(server: &MockServer) -> Request {
    let mut requests = server.received_requests().await.expect("requests are recorded");
    assert_eq!(requests.len(), 1, "one message, one request");
    requests.remove(0)
}

/// Starts a gateway that reads a whole request, writes these bytes and closes the connection. Without bytes
/// it neither responds nor closes.
pub(crate) async fn raw(response: Option<&'static [u8]>) -> String {
    serve_once(response.unwrap_or_default(), response.is_none()).await
}

/// Starts a gateway that reads a whole request, writes these bytes and then stays silent.
pub(crate) async fn raw_then_silent(response: &'static [u8]) -> String {
    serve_once(response, true).await
}

async fn serve_once(response: &'static [u8], stays: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("local address");
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.expect("new connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\"end\":1}") {
            let mut buffer = [0; 1024];
            let read = connection.read(&mut buffer).await.expect("readable");
            assert!(read > 0, "the request is complete");
            request.extend_from_slice(&buffer[..read]);
        }
        connection.write_all(response).await.expect("written");
        if stays {
            std::future::pending::<()>().await;
        }
    });
    format!("http://{address}/")
}
