//! Where gateways report what became of messages. The document does not have it: how it is called is
//! for each gateway to say.

use std::sync::Arc;

use poem::{Endpoint, IntoEndpoint, Request, Response, Result, get};
use referral_core::{
    Referral,
    sms::http::{GatewayReports, ReportError, ReportRequest},
};

use crate::{AppOptions, code::Code, problem::Problem};

/// Where it is.
pub(crate) const ROUTE: &str = "/sms/reports/{gateway}/";

/// The methods that gateways use.
pub(crate) const METHODS: &str = "GET, HEAD, POST";

const PREFIX: &str = "/sms/reports/";

/// Why nothing that a gateway reports can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{gateway}` signs the URL that it calls with its reports, which is not known here; \
     say what others call this server: its public URL"
)]
pub struct UnknownUrl {
    gateway: String,
}

impl AppOptions {
    /// Has what a gateway reports read, and answers with the URL that it is to call for that, unless it is
    /// not known what others call this server. To be called once that is set.
    ///
    /// # Errors
    ///
    /// If it is not, and the gateway signs that URL. Then nothing that it reports is read.
    pub fn read_reports(&mut self, reports: GatewayReports) -> Result<Option<String>, UnknownUrl> {
        let gateway = reports.gateway();
        if self.public_url.is_none() && reports.signs_url() {
            return Err(UnknownUrl { gateway: gateway.to_owned() });
        }
        let public_url = self.public_url.as_deref().map(|url| url.trim_end_matches('/'));
        let url = public_url.map(|url| reports.url(&format!("{url}{PREFIX}{gateway}/")));
        self.reports.push(reports);
        Ok(url)
    }
}

/// Whether that path leads there.
pub(crate) fn is_at(path: &str) -> bool {
    let gateway = path.strip_prefix(PREFIX).map(|gateway| gateway.trim_end_matches('/'));
    gateway.is_some_and(|gateway| !gateway.is_empty() && !gateway.contains('/'))
}

/// What answers there.
pub(crate) fn endpoint(
    referral: &Referral,
    options: &AppOptions,
) -> impl IntoEndpoint<Endpoint: 'static> + use<> {
    let reader = Reader {
        referral: referral.clone(),
        public_url: options.public_url.clone().unwrap_or_default(),
        reports: options.reports.clone(),
    };
    let reader = Arc::new(reader);
    get(Arc::clone(&reader)).post(reader)
}

struct Reader {
    referral: Referral,
    public_url: String,
    reports: Vec<GatewayReports>,
}

impl Endpoint for Reader {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let gateway: String = request.path_params()?;
        let reports = self.reports.iter().find(|reports| reports.gateway() == gateway);
        let reports = reports.ok_or_else(|| Problem::new(Code::NotFound))?;

        let body = request.take_body().into_vec().await?;
        // As it was asked for: with its slash, if it had one.
        let path = request.original_uri().path_and_query().map_or("", |path| path.as_str());
        let url = format!("{}{path}", self.public_url.trim_end_matches('/'));
        let read = reports.read(&ReportRequest { url: &url, headers: request.headers(), body: &body });
        let read = read.map_err(|error| match error {
            ReportError::Signature => Problem::new(Code::InvalidSignature),
            other => Problem::with_detail(Code::BadRequest, other.to_string()),
        })?;
        // If one cannot be noted the gateway reports all of them again, which does no harm.
        for report in read {
            self.referral.report_delivery(report).await.map_err(Problem::from)?;
        }
        Ok(Response::builder().content_type("text/plain; charset=utf-8").body(reports.reply().to_owned()))
    }
}
