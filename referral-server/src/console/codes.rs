//! Recent requests for codes of a phone, and attempts to redeem them: why did no code arrive?

use maud::{Markup, html};
use referral_core::{CodeRequestKind, CodeRequestOutcome, CodeRequestView, PhoneNumber, sms::DeliveryStatus};

use super::{layout::show_time, texts::Language, visit::Visit};
use crate::error::Problem;

impl Visit {
    /// Shows the recent requests of a phone.
    pub(super) async fn code_requests(&self, phone: &PhoneNumber) -> Result<Markup, Problem> {
        let t = self.language;
        let requests = self.administration()?.code_requests(phone).await?;
        Ok(html! {
            section aria-labelledby="codes" {
                h2 #codes { (t.codes_and_messages()) }
                @if requests.is_empty() {
                    p { (t.no_code_requests()) }
                } @else {
                    table.stacked {
                        thead {
                            tr {
                                @for name in [t.time(), t.request(), t.outcome(), t.gateway(), t.request_id()] {
                                    th scope="col" { (name) }
                                }
                            }
                        }
                        tbody {
                            @for request in &requests { (row(t, request)) }
                        }
                    }
                }
            }
        })
    }
}

fn row(t: Language, view: &CodeRequestView) -> Markup {
    let request = &view.request;
    html! {
        tr {
            td data-name=(t.time()) { (show_time(request.at)) }
            td data-name=(t.request()) {
                @match request.kind {
                    CodeRequestKind::Send => { (t.code_requested()) }
                    CodeRequestKind::Redeem => { (t.code_entered()) }
                }
            }
            td data-name=(t.outcome()) {
                span {
                    (outcome_text(t, request.outcome))
                    @if let Some(status) = view.message_status { ", " (status_text(t, status)) }
                }
                @if let Some(reason) = &request.reason { " " code.long { (reason) } }
                @if let Some(limit) = &request.limit {
                    p {
                        (t.limit()) ": " code.long { (limit.name) } " "
                        @if let Some(rule) = &limit.rule { (rule) " " }
                        (t.free_again()) " " (show_time(limit.free_at)) " UTC"
                    }
                }
            }
            td data-name=(t.gateway()) { @if let Some(gateway) = &request.gateway { (gateway) } }
            td data-name=(t.request_id()) { @if let Some(id) = &request.request_id { code.long { (id) } } }
        }
    }
}

fn outcome_text(t: Language, outcome: CodeRequestOutcome) -> &'static str {
    match outcome {
        CodeRequestOutcome::Sent => t.outcome_sent(),
        CodeRequestOutcome::Unknown => t.outcome_unknown(),
        CodeRequestOutcome::TestNumber => t.outcome_test_number(),
        CodeRequestOutcome::NotSent => t.outcome_not_sent(),
        CodeRequestOutcome::Redeemed => t.outcome_redeemed(),
        CodeRequestOutcome::Refused => t.outcome_refused(),
        CodeRequestOutcome::RejectedByHost => t.outcome_rejected_by_host(),
        CodeRequestOutcome::GateFailed => t.outcome_gate_failed(),
        CodeRequestOutcome::Failed => t.outcome_failed(),
    }
}

fn status_text(t: Language, status: DeliveryStatus) -> &'static str {
    match status {
        DeliveryStatus::Sent => t.not_reported(),
        DeliveryStatus::Failed => t.not_delivered(),
        DeliveryStatus::Delivered => t.delivered(),
    }
}
