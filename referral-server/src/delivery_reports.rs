//! Endpoint for delivery reports of gateways. It is not in the OpenAPI document, because each gateway defines
//! the format of its reports.

use std::sync::Arc;

use poem::{Endpoint, Request, Response, Result, Route, get};
use referral_core::{
    ReferralService,
    sms::http::{ReportError, ReportReader, ReportRequest},
    texts::Text,
};

use crate::{
    error::Problem,
    error_code::ErrorCode,
    mount::{Prefix, Root},
    options::AppOptions,
};

/// Route of reports in metrics.
pub(crate) const ROUTE: &str = "/sms/reports/{gateway}/";

/// Methods that gateways use.
pub(crate) const METHODS: &str = "GET, HEAD, POST";

const PATH: &str = "/sms/reports/";

/// Returns the URL that a gateway must send its reports to, if clients reach the root page at `public_url`,
/// which includes the path prefix.
#[must_use]
pub fn reports_url(public_url: &str, reader: &ReportReader) -> String {
    reader.url(&format!("{}{PATH}{}/", public_url.trim_end_matches('/'), reader.gateway()))
}

/// Returns `true` if the path is that of the reports of a gateway.
pub(crate) fn is_at(path: &str) -> bool {
    let gateway = path.strip_prefix(PATH).map(|gateway| gateway.trim_end_matches('/'));
    gateway.is_some_and(|gateway| !gateway.is_empty() && !gateway.contains('/'))
}

/// Adds the route of reports.
pub(crate) fn add(route: Route, root: &Root, referral: &ReferralService, options: &AppOptions) -> Route {
    let reader = Arc::new(Reader {
        referral: referral.clone(),
        root: root.clone(),
        readers: options.report_readers.clone(),
    });
    route.at(format!("{PATH}:gateway"), get(Arc::clone(&reader)).post(reader))
}

struct Reader {
    referral: ReferralService,
    root: Root,
    readers: Vec<ReportReader>,
}

impl Endpoint for Reader {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let gateway: String = request.path_params()?;
        let reader = self.readers.iter().find(|reader| reader.gateway() == gateway);
        let reader = reader.ok_or_else(|| Problem::new(ErrorCode::NotFound))?;

        let body = request.take_body().into_vec().await?;
        // The path of the request as it was sent, with its trailing slash if it had one.
        let path = request.original_uri().path_and_query().map_or("", |path| path.as_str());
        let prefix = Prefix::found(&request);
        let url = format!("{}{}", self.root.url(&prefix), prefix.remove_from(path));
        let read = reader.read(&ReportRequest { url: &url, headers: request.headers(), body: &body });
        let read = read.map_err(|error| match error {
            ReportError::Signature => Problem::new(ErrorCode::InvalidSignature),
            _ => Problem::with_detail(ErrorCode::BadRequest, Text::MalformedReport),
        })?;
        // If a report cannot be recorded, the gateway sends all of them again. Duplicates do no harm.
        for report in read {
            self.referral.report_delivery(report).await.map_err(Problem::from)?;
        }
        Ok(Response::builder().content_type("text/plain; charset=utf-8").body(reader.reply().to_owned()))
    }
}
