//! Gate that asks an HTTP endpoint of the host.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode, Url, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;

use super::{
    Caller, Gate, GateOperation, InvalidRejection, Rejection, RequestedInvitation, RequestedSignUp, Verdict,
};
use crate::{
    clock::{Clock, SystemClock, to_seconds},
    http_client::{self, ClientError},
    random::{Random, SystemRandom},
    sms::locale::Locale,
    standard_webhooks::{InvalidSecret, Secret},
    storage::error::BoxError,
};

/// Maximum number of bytes of a response. A rejection with the longest text has 3 KiB, if its JSON escapes
/// each character.
const MAX_RESPONSE_BYTES: usize = 8 * 1024;

/// Gate that asks an HTTP endpoint of the host, with requests that are signed as
/// [Standard Webhooks](https://www.standardwebhooks.com) describes.
///
/// `docs/gate.md` in the repository describes the requests and the responses. The gate follows no redirects
/// and repeats no requests. Its errors contain nothing of the request. [`GateOptions`](super::GateOptions)
/// has the time limit.
///
/// ```
/// use referral_core::gate::HttpGate;
///
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// let gate = HttpGate::new("https://accounts.example.com/gate", secret)?;
/// # Ok::<_, referral_core::gate::HttpGateError>(())
/// ```
pub struct HttpGate {
    url: Url,
    secret: Secret,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// Error of the configuration of an [`HttpGate`]. It does not contain the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpGateError {
    /// The URL is invalid.
    #[error(
        "the URL must start with https://, or with http:// and a loopback address, and must have no user name"
    )]
    Url,
    /// The secret is invalid.
    #[error("{0}")]
    Secret(String),
    /// The file with certificates is invalid, or the client cannot be created.
    #[error("{0}")]
    Client(String),
}

impl HttpGate {
    /// Creates a gate. The URL is `https`, or `http` on a loopback address. The secret is `whsec_` followed
    /// by 24 to 64 random bytes in Base64.
    ///
    /// # Errors
    ///
    /// [`HttpGateError`].
    pub fn new(url: &str, secret: &str) -> Result<Self, HttpGateError> {
        let url = Url::parse(url).map_err(|_| HttpGateError::Url)?;
        let is_private =
            url.scheme() == "https" || (url.scheme() == "http" && http_client::is_loopback(&url));
        if !is_private || !url.username().is_empty() || url.password().is_some() {
            return Err(HttpGateError::Url);
        }
        let (secret, client) = (Secret::parse(secret)?, client(&url, None)?);
        Ok(Self { url, secret, client, clock: Arc::new(SystemClock) })
    }

    /// Also trusts the authorities in a file with certificates in PEM.
    ///
    /// # Errors
    ///
    /// [`HttpGateError::Client`] if the file cannot be read or has no certificate.
    pub fn trust(mut self, ca_file: &Path) -> Result<Self, HttpGateError> {
        self.client = client(&self.url, Some(ca_file))?;
        Ok(self)
    }

    /// Sets the source of the current time. The default is the system clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    async fn ask(
        &self,
        operation: GateOperation,
        caller: &Caller,
        invitation: Option<&RequestedInvitation>,
    ) -> Result<Verdict, BoxError> {
        let now = self.clock.now();
        let question = Question {
            r#type: operation.as_str(),
            timestamp: to_seconds(now).format(&Rfc3339)?,
            data: Data::new(caller, invitation),
        };
        let body = serde_json::to_vec(&question)?;
        let random: &dyn Random = &SystemRandom;
        let id = random.time_ordered_uuid(now).to_string();
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        for (name, value) in self.secret.sign(&id, now, &body) {
            request = request.header(name, value);
        }
        let response = request.body(body).send().await.map_err(|error| failure(&error.without_url()))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the endpoint returned HTTP {}", response.status().as_u16()).into());
        }
        let answer: Answer = serde_json::from_slice(&read(response).await?).map_err(|_| INVALID_RESPONSE)?;
        Ok(answer.verdict()?)
    }
}

/// Shows no fields, because one is secret.
impl std::fmt::Debug for HttpGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpGate(…)")
    }
}

#[async_trait]
impl Gate for HttpGate {
    async fn before_send(&self, caller: &Caller) -> Result<Verdict, BoxError> {
        self.ask(GateOperation::BeforeSend, caller, None).await
    }

    async fn before_sign_up(&self, caller: &Caller, sign_up: &RequestedSignUp) -> Result<Verdict, BoxError> {
        self.ask(GateOperation::BeforeSignUp, caller, sign_up.invitation.as_ref()).await
    }

    async fn before_invitation(
        &self,
        caller: &Caller,
        invitation: &RequestedInvitation,
    ) -> Result<Verdict, BoxError> {
        self.ask(GateOperation::BeforeInvitation, caller, Some(invitation)).await
    }
}

fn client(url: &Url, ca_file: Option<&Path>) -> Result<Client, HttpGateError> {
    let builder = http_client::builder(ca_file)?;
    // The proxies of the environment are for other hosts.
    let builder = if http_client::is_loopback(url) { builder.no_proxy() } else { builder };
    Ok(http_client::build(builder)?)
}

fn failure(error: &reqwest::Error) -> BoxError {
    http_client::connection_failure(error).unwrap_or_else(|| "the connection was lost".into()).into()
}

/// Reads the body of a response, up to the maximum size.
async fn read(mut response: Response) -> Result<Vec<u8>, BoxError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_RESPONSE_BYTES {
            return Err(format!("the response has more than {MAX_RESPONSE_BYTES} bytes").into());
        }
    }
    Ok(body)
}

/// Body of a request.
#[derive(Serialize)]
struct Question<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    phone: &'a str,
    region: Option<String>,
    address: Option<String>,
    user_agent: Option<&'a str>,
    locales: Vec<&'a str>,
    context: &'a Map<String, Value>,
    invitation: Option<InvitationData<'a>>,
}

#[derive(Serialize)]
struct InvitationData<'a> {
    inviter_id: String,
    invitee_id: Option<String>,
    invite_code: &'a str,
    via: &'static str,
}

impl<'a> Data<'a> {
    fn new(caller: &'a Caller, invitation: Option<&'a RequestedInvitation>) -> Self {
        Self {
            phone: caller.phone.as_str(),
            region: caller.region.map(|region| region.to_string()),
            address: caller.address.map(|address| address.to_string()),
            user_agent: caller.user_agent.as_deref(),
            locales: caller.locales.iter().map(Locale::as_str).collect(),
            context: caller.context.as_object(),
            invitation: invitation.map(InvitationData::from),
        }
    }
}

impl<'a> From<&'a RequestedInvitation> for InvitationData<'a> {
    fn from(invitation: &'a RequestedInvitation) -> Self {
        Self {
            inviter_id: invitation.inviter.to_string(),
            invitee_id: invitation.invitee.map(|invitee| invitee.to_string()),
            invite_code: invitation.code.as_str(),
            via: invitation.via.as_str(),
        }
    }
}

const INVALID_RESPONSE: &str = "the response must be JSON with `allow`, which is true or false, and for false with the texts `code` and `detail`";

/// Body of a response. Unknown members are ignored.
#[derive(Deserialize)]
struct Answer {
    allow: bool,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

impl Answer {
    fn verdict(self) -> Result<Verdict, InvalidRejection> {
        if self.allow {
            return Ok(Verdict::Allow);
        }
        Rejection::new(self.code.unwrap_or_default(), self.detail.unwrap_or_default()).map(Verdict::Reject)
    }
}

impl From<InvalidSecret> for HttpGateError {
    fn from(error: InvalidSecret) -> Self {
        Self::Secret(error.to_string())
    }
}

impl From<ClientError> for HttpGateError {
    fn from(error: ClientError) -> Self {
        Self::Client(error.to_string())
    }
}
