//! Whom a sender trusts.

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

/// A gateway for this host with a certificate that it made itself; its port, and the certificate as PEM.
async fn gateway(host: &str) -> (u16, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .expect("a key and its certificate");
    let (acceptor, pem) = (TlsAcceptor::from(Arc::new(config)), cert.pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.expect("a connection");
            // Whoever does not trust it goes away.
            if let Ok(mut connection) = acceptor.accept(connection).await {
                let mut request = [0; 1024];
                let read = connection.read(&mut request).await.expect("readable");
                assert!(read > 0, "a request");
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
            }
        }
    });
    (port, pem)
}

#[tokio::test]
async fn an_authority_that_is_not_known_must_be_named_and_answers_for_its_host_alone() {
    let (port, pem) = gateway("127.0.0.1").await;
    let (other_port, other_pem) = gateway("gateway.example").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authorities.pem");
    std::fs::write(&file, pem + &other_pem).expect("written");

    let send = async |port: u16, more: &str| {
        let config = format!("url = \"https://127.0.0.1:{port}/\"\nmethod = \"GET\"\n{more}");
        sender(&config).expect("sound").send(&message()).await.map(drop)
    };
    let trusts = format!("ca_file = {file:?}");
    let unknown = send(port, "").await;
    let named = send(port, &trusts).await;
    let of_another = send(other_port, &trusts).await;
    named.expect("accepted");
    for refused in [unknown, of_another] {
        // Nothing was sent, for certain.
        let is_it = |said: &str| said.starts_with("failed to connect: invalid peer certificate");
        assert!(matches!(&refused, Err(SmsError::Temporary(said)) if is_it(said)), "{refused:?}");
    }
}
