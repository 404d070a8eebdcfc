//! Service with SMS gateways of its own: a sender posts each message as JSON, and the next gateway is used if
//! one fails.
//!
//! `cargo run -p referral-examples --bin example-sms-sender example-data 127.0.0.1:8080 URL…` requires the
//! URLs of one gateway or more, in the order of preference.
#![expect(clippy::print_stdout, reason = "the program prints its address")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::Router;
use referral_core::sms::{Failover, Receipt, SmsError, SmsMessage, SmsSender};
use referral_examples::{AnyError, Arguments, open_with};
use referral_server::{AppOptions, TowerService, app};
use reqwest::{StatusCode, redirect};
use serde_json::json;
use tokio::net::TcpListener;

/// Time limit for connecting to a gateway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse()?;
    let storage = referral_sqlx::connect(&arguments.database_url()).await?;
    let referral = open_with(&arguments, storage, Arc::new(gateways(&arguments.others)?)).await?;

    let api = TowerService::new(app(referral, AppOptions::default()));
    let router = Router::new().nest_service("/auth", api);
    let listener = TcpListener::bind(arguments.address).await?;
    println!("http://{}/auth/docs/", listener.local_addr()?);
    // The limits per address need the connection information.
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Returns a sender that tries the gateways in this order.
fn gateways(urls: &[String]) -> Result<Failover, AnyError> {
    let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
    let http = builder.redirect(redirect::Policy::none()).build()?;
    let mut gateways = Failover::builder();
    for (number, url) in (1..).zip(urls) {
        let gateway = JsonGateway { http: http.clone(), url: url.clone() };
        gateways = gateways.gateway(format!("gateway-{number}"), gateway);
    }
    Ok(gateways.build()?)
}

/// Gateway that accepts messages as JSON.
struct JsonGateway {
    http: reqwest::Client,
    url: String,
}

#[async_trait]
impl SmsSender for JsonGateway {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let (to, text) = (message.phone.as_str(), message.text.reveal());
        let body = json!({ "id": message.id.to_string(), "to": to, "text": text });
        let response = self.http.post(&self.url).json(&body).send().await.map_err(|error| {
            // Without a connection, no message was sent.
            if error.is_connect() {
                SmsError::Temporary("failed to connect".into())
            } else {
                SmsError::Unknown("the connection was lost".into())
            }
        })?;
        let status = response.status();
        let reason = format!("the status is {status}");
        match status {
            _ if status.is_success() => Ok(Receipt::default()),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(SmsError::Busy { reason, retry_after: Duration::from_mins(1) })
            }
            _ if status.is_client_error() => Err(SmsError::Temporary(reason)),
            // A server that reports an error may have sent the message.
            _ => Err(SmsError::Unknown(reason)),
        }
    }

    fn min_timeout(&self) -> Duration {
        CONNECT_TIMEOUT + Duration::from_millis(500)
    }
}
