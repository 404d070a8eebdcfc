//! Start page: the state of the service, sign-ups and invitations over time, and the limits in force.

use maud::{Markup, html};
use poem::Response;
use referral_core::{
    CurrentUser, ListUsers, PageSize, ServiceStatus,
    policy::{Budget, Limits, Policy},
};

use super::{
    layout::{Menu, duration_text, group_digits, show_time},
    plot,
    texts::Language,
    visit::Visit,
};
use crate::error::Problem;

/// Numbers of days that can be shown.
const PERIODS: [u16; 3] = [30, 90, 365];

impl Visit {
    /// Shows the start page.
    pub(super) async fn overview(&self, staff: &CurrentUser) -> Result<Response, Problem> {
        let (t, referral) = (self.language, self.referral());
        let days = self.query.get("days").and_then(|days| days.parse().ok());
        let days = PERIODS.into_iter().find(|period| Some(*period) == days).unwrap_or(PERIODS[0]);
        let status = referral.status(staff).await?;
        let counts = referral.daily_counts(staff, days).await?;
        let one = ListUsers { limit: PageSize::new(1).unwrap_or_default(), ..ListUsers::default() };
        let users = referral.users(staff, one).await?.count;
        let today = counts.last();
        let sign_ups: Vec<_> = counts.iter().map(|counts| (counts.day, counts.sign_ups)).collect();
        let invitations: Vec<_> = counts.iter().map(|counts| (counts.day, counts.invitations)).collect();
        let content = html! {
            h1 { (t.overview()) }
            @if status.under_attack { p.error role="alert" { (t.attack_text()) } }
            dl.tiles {
                (tile(t.all_users(), &html! { (group_digits(users)) }))
                @if let Some(today) = today {
                    (tile(&format!("{} {}", t.sign_ups(), t.today()), &html! { (group_digits(today.sign_ups)) }))
                    (tile(&format!("{} {}", t.invitations(), t.today()), &html! { (group_digits(today.invitations)) }))
                }
                (self.attack_tiles(&status))
            }
            section aria-labelledby="period" {
                h2 #period { (t.period()) }
                nav.pager aria-label=(t.period()) {
                    @for period in PERIODS {
                        a.button href={ "?days=" (period) } aria-current=[(period == days).then_some("true")] { (period) " " (t.days()) }
                    }
                }
                (plot::bars(t, t.sign_ups(), &sign_ups))
                (plot::bars(t, t.invitations(), &invitations))
            }
            section aria-labelledby="limits" {
                h2 #limits { (t.limits()) }
                (limits_table(t, referral.policy()))
            }
        };
        Ok(self.page(Menu::Overview, t.overview(), &content))
    }

    /// Shows the state of the attack alarm and the numbers that limits of the whole service depend on.
    fn attack_tiles(&self, status: &ServiceStatus) -> Markup {
        let (t, policy) = (self.language, self.referral().policy());
        html! {
            @if let Some(failed) = status.failed_attempts {
                (tile(t.attack_alarm(), &html! {
                    @if status.under_attack {
                        strong.bad { (t.attack_on()) }
                        @if let Some(until) = status.attack_until { " " small { (t.attack_until()) " " (show_time(until)) " UTC" } }
                    } @else { (t.attack_off()) }
                }))
                (tile(t.wrong_codes(), &html! { (group_digits(failed)) }))
            }
            @if let Some(messages) = status.messages {
                (tile(t.messages(), &html! {
                    (group_digits(messages))
                    @if let Some(Budget::Messages(budget)) = policy.messages_per_day {
                        " " small { (t.of_budget()) " " (group_digits(budget.into())) }
                    }
                }))
            }
        }
    }
}

fn tile(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn limits_table(t: Language, policy: &Policy) -> Markup {
    let number = |number: u32| group_digits(number.into());
    let optional = |value: Option<u32>| value.map_or_else(|| t.off().to_owned(), number);
    let steps = policy.code_length_steps.iter();
    let steps = steps
        .map(|step| format!("{} ({} {})", step.code_length, step.failed_attempts, t.after_wrong_codes()));
    let steps = or_off(t, &steps.collect::<Vec<_>>());
    let messages = match policy.messages_per_day {
        Some(Budget::Messages(messages)) => number(messages),
        _ => t.unlimited().to_owned(),
    };
    let rows = [
        (t.code_length(), number(policy.code_length.into())),
        (t.code_length_steps(), steps),
        (t.code_lifetime(), duration_text(t, policy.code_lifetime)),
        (t.attempts_per_code(), number(policy.attempts_per_code)),
        (t.resend_interval(), duration_text(t, policy.resend_interval)),
        (t.codes_per_phone(), limits_text(t, &policy.codes_per_phone)),
        (t.codes_per_phone_and_address(), limits_text(t, &policy.codes_per_phone_and_address)),
        (t.codes_per_address(), limits_text(t, &policy.codes_per_address)),
        (t.codes_per_number_range(), limits_text(t, &policy.codes_per_number_range)),
        (t.failed_attempts_per_address(), limits_text(t, &policy.failed_attempts_per_address)),
        (t.attempts_without_challenge(), limits_text(t, &policy.attempts_without_challenge)),
        (t.unknown_invite_codes(), limits_text(t, &policy.unknown_invite_codes)),
        (t.email_changes(), limits_text(t, &policy.email_changes)),
        (t.lockout_threshold(), optional(policy.lockout_threshold)),
        (t.attack_threshold(), optional(policy.attack_threshold)),
        (t.attack_code_length(), number(policy.attack_code_length.into())),
        (t.messages_per_day(), messages),
        (t.test_numbers(), group_digits(policy.test_numbers.len() as u64)),
    ];
    html! {
        table.figures {
            thead { tr { th scope="col" { (t.limit()) } th scope="col" { (t.value()) } } }
            tbody {
                @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } }
            }
        }
    }
}

fn limits_text(t: Language, limits: &Limits) -> String {
    let limit = |limit: &referral_core::policy::Limit| {
        format!("{}\u{a0}/\u{a0}{}", limit.count(), duration_text(t, limit.window()))
    };
    or_off(t, &limits.iter().map(limit).collect::<Vec<_>>())
}

fn or_off(t: Language, texts: &[String]) -> String {
    if texts.is_empty() { t.off().to_owned() } else { texts.join(", ") }
}
