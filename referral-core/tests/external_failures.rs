//! Tests of `ReferralService` with gateways that fail, and of its events.

#[path = "common/mock_gateway.rs"]
mod mock_gateway;
#[path = "common/service.rs"]
mod service;
#[path = "common/sign_in.rs"]
mod sign_in;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    BuildError, CodeInput, CodePurpose, Error, ErrorCode, OneTimeCode, PhoneNumber, ReferralService,
    ReferralServiceBuilder, Refusal, Region, SendCode, SentCode, SignIn,
    events::{
        CodeNotSent, CodeSent, DeliveryStatusChanged, Event, Hook, SessionEnded, SignInRefused,
        TestCodeIssued, UserSignedIn,
    },
    policy::{Policy, Regions, TestNumber},
    sms::{DevelopmentSender, Locale, MessageTemplates, Receipt, SmsError, SmsMessage, SmsSender},
    storage::MemoryStorage,
    test_util::{ManualClock, TestService},
};

use crate::{
    mock_gateway::MockGateway,
    sign_in::{enter, phone, with_right_code},
};

fn builder(sender: impl SmsSender) -> ReferralServiceBuilder {
    service::builder(Arc::new(MemoryStorage::new()), sender)
}

fn referral(sender: impl SmsSender) -> ReferralService {
    builder(sender).build().expect("valid policy and keys")
}

async fn send_code(referral: &ReferralService, locales: &[&str]) -> Result<SentCode, Error> {
    let locales: Vec<_> = locales.iter().map(|tag| Locale::parse(tag).expect("valid tag")).collect();
    referral.send_code(SendCode::new(phone(1)).locales(locales)).await
}

#[tokio::test]
async fn message_has_the_code_and_the_language_and_its_debug_output_is_redacted() {
    let mut gateway = MockGateway::new();
    gateway
        .expect_send()
        .withf(|message| {
            let code = message.code.reveal();
            message.text.reveal() == format!("{code} ist Ihr Code")
                && message.locale.as_ref().map(Locale::as_str) == Some("de-AT")
                && !format!("{message:?}").contains(code)
                && !format!("{message:?}").contains("79608000001")
        })
        .once()
        .returning(|_| Ok(Receipt::new("m1")));
    let referral = builder(gateway)
        .message_templates(
            MessageTemplates::default().template("de", "{code} ist Ihr Code").expect("valid template"),
        )
        .build()
        .expect("valid policy and keys");
    let sent = send_code(&referral, &["de-AT", "ru"]).await.expect("sent");
    assert!(sent.revealed_code.is_none(), "the gateway returns no code");
}

#[tokio::test]
async fn custom_function_can_write_the_messages() {
    let mut gateway = MockGateway::new();
    let is_own = |message: &SmsMessage| message.text.reveal() == format!("de, ru: {}", message.code.reveal());
    gateway.expect_send().withf(is_own).once().returning(|_| Ok(Receipt::default()));
    let text = |_: CodePurpose, code: &OneTimeCode, locales: &[Locale]| {
        let locales: Vec<_> = locales.iter().map(Locale::as_str).collect();
        format!("{}: {}", locales.join(", "), code.reveal())
    };
    let referral = builder(gateway).message_fn(text).build().expect("valid policy and keys");
    send_code(&referral, &["de", "ru"]).await.expect("sent");
}

#[tokio::test]
async fn message_that_was_certainly_not_sent_starts_no_resend_interval() {
    let mut gateway = MockGateway::new();
    let mut responses =
        [SmsError::Permanent("blocked".into()), SmsError::Temporary("busy".into())].into_iter();
    gateway.expect_send().times(2).returning(move |_| Err(responses.next().expect("two responses")));
    let referral = referral(gateway);
    let unreachable = send_code(&referral, &[]).await;
    assert!(matches!(unreachable, Err(Error::Refused(Refusal::PhoneUnreachable))), "{unreachable:?}");
    assert!(matches!(send_code(&referral, &[]).await, Err(Error::SmsNotSent(_))));
}

#[tokio::test]
async fn message_that_may_have_been_sent_is_treated_as_sent() {
    let mut gateway = MockGateway::new();
    gateway.expect_send().once().returning(|_| Err(SmsError::Unknown("no response".into())));
    let referral = referral(gateway);
    send_code(&referral, &[]).await.expect("treated as sent");
    let again = send_code(&referral, &[]).await;
    assert!(matches!(again, Err(Error::Refused(Refusal::TooManyRequests { .. }))));
}

#[tokio::test]
async fn no_message_is_sent_to_a_landline_or_within_the_resend_interval() {
    let mut gateway = MockGateway::new();
    gateway.expect_send().once().returning(|_| Ok(Receipt::default()));
    let referral = referral(gateway);
    let landline = PhoneNumber::parse("+78121234567", None).expect("valid number");
    let refused = referral.send_code(SendCode::new(landline)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::PhoneNotAllowed))));
    send_code(&referral, &[]).await.expect("sent");
    let refused = send_code(&referral, &[]).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TooManyRequests { .. }))), "{refused:?}");
}

#[tokio::test]
async fn no_message_is_sent_to_a_test_number_of_any_line_type_and_region() {
    let mut policy = Policy::standard();
    policy.regions = Some(Regions::Only(vec![Region::parse("KZ").expect("valid region")]));
    let landline: TestNumber = "+78121234567=47110815@2026-12-31".parse().expect("valid test number");
    policy.test_numbers = vec![landline.clone()];
    let recorder = RecordingHook::default();
    let clock = ManualClock::new(landline.until - Duration::from_millis(2));
    let mut gateway = MockGateway::new();
    gateway.expect_send().never();
    let referral =
        builder(gateway).policy(policy).hook(Arc::new(recorder.clone())).clock(Arc::new(clock.clone()));
    let referral = referral.build().expect("valid policy and keys");
    for _ in 0..2 {
        let sent = referral.send_code(SendCode::new(landline.phone.clone())).await.expect("issued");
        assert_eq!((sent.code_length, sent.revealed_code.is_none()), (8, true));
        let code = CodeInput::parse("4711-0815").expect("digits");
        referral.sign_in(SignIn::new(sent.phone, code)).await.expect("signed in");
        clock.advance(Duration::from_millis(1));
    }
    let refused = referral.send_code(SendCode::new(landline.phone)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::PhoneNotAllowed))), "the test number has expired");

    let written = recorder.0.lock().expect("not poisoned").clone();
    let expected = [
        "the fixed code of +78121234567",
        "created +78121234567",
        "signed in",
        "the fixed code of +78121234567",
        "signed in",
        "nothing to +78121234567: phone_not_allowed",
    ];
    assert_eq!(written, expected);
}

/// Hook that records all events.
#[derive(Clone, Default)]
struct RecordingHook(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Hook for RecordingHook {
    async fn on_event(&self, event: &Event) {
        let entry = match event {
            Event::UserCreated(user) => format!("created {}", user.phone.as_str()),
            Event::InvitationAccepted(invitation) => format!("accepted via {}", invitation.via.as_str()),
            Event::CodeSent(CodeSent { phone, code_length, .. }) => {
                format!("{code_length} digits to {}", phone.as_str())
            }
            Event::DeliveryStatusChanged(DeliveryStatusChanged { route, status, .. }) => {
                format!("{status} by {}", route.gateway)
            }
            Event::TestCodeIssued(TestCodeIssued { phone, .. }) => {
                format!("the fixed code of {}", phone.as_str())
            }
            Event::CodeNotSent(CodeNotSent { phone, reason, .. }) => {
                let reason = reason.as_ref().map_or("the gateway", Refusal::reason);
                format!("nothing to {}: {reason}", phone.as_str())
            }
            Event::UserSignedIn(_) => "signed in".to_owned(),
            Event::SignInRefused(SignInRefused { reason, .. }) => format!("refused: {}", reason.code()),
            Event::SessionEnded(SessionEnded { reason, .. }) => format!("session ended: {reason}"),
            Event::AttackChanged(change) => format!("under attack: {}", change.under_attack),
            _ => "something new".to_owned(),
        };
        self.0.lock().expect("not poisoned").push(entry);
    }
}

#[tokio::test]
async fn hook_is_called_once_for_each_event() {
    let recorder = RecordingHook::default();
    let hook = Arc::new(recorder.clone());
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.hook(hook));
    let anna = service.sign_in_as("+79608000001").await;
    let code = anna.user.invite_code;
    for _ in 0..3 {
        service.sign_in_with_invite_code("+79608000002", &code).await;
    }
    service.sign_in_as("+79608000003").await;
    service.sign_in_with_invite_code("+79608000003", &code).await;
    let mut written = recorder.0.lock().expect("not poisoned").clone();
    written.retain(|entry| entry.starts_with("created") || entry.starts_with("accepted"));
    let expected = [
        "created +79608000001",
        "created +79608000002",
        "accepted via sign_up",
        "created +79608000003",
        "accepted via sign_in",
    ];
    assert_eq!(written, expected);
}

#[tokio::test]
async fn hook_is_called_for_security_events() {
    let recorder = RecordingHook::default();
    let mut gateway = MockGateway::new();
    gateway.expect_send().once().returning(|_| Err(SmsError::Temporary("busy".into())));
    gateway.expect_send().returning(|message| {
        let mut receipt = Receipt::default();
        receipt.revealed_code = Some(message.code.clone());
        Ok(receipt)
    });
    let referral = builder(gateway).hook(Arc::new(recorder.clone())).build().expect("valid policy and keys");
    let failed = send_code(&referral, &[]).await;
    assert!(matches!(failed, Err(Error::SmsNotSent(_))), "{failed:?}");
    let sent = send_code(&referral, &[]).await.expect("sent");
    let refused = send_code(&referral, &[]).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TooManyRequests { .. }))), "{refused:?}");
    let wrong = CodeInput::parse("12345").expect("digits");
    let refused = referral.sign_in(SignIn::new(sent.phone.clone(), wrong)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::InvalidCode))), "{refused:?}");
    let anna = referral.sign_in(with_right_code(&sent)).await.expect("signed in");
    assert!(referral.sign_out(&anna.tokens.refresh).await.expect("signed out"));

    let written = recorder.0.lock().expect("not poisoned").clone();
    let expected = [
        "nothing to +79608000001: the gateway",
        "4 digits to +79608000001",
        "nothing to +79608000001: resend_interval",
        "refused: invalid_code",
        "created +79608000001",
        "signed in",
        "session ended: signed_out",
    ];
    assert_eq!(written, expected);
}

/// Hook that records the routes of messages.
#[derive(Clone, Default)]
struct Routes(Arc<Mutex<Vec<Option<String>>>>);

#[async_trait]
impl Hook for Routes {
    async fn on_event(&self, event: &Event) {
        if let Event::CodeSent(CodeSent { route, .. }) | Event::UserSignedIn(UserSignedIn { route, .. }) =
            event
        {
            let name = route.as_ref().map(|route| {
                let region = route.region.map(|region| region.to_string());
                format!("{} to {}", route.gateway, region.unwrap_or_default())
            });
            self.0.lock().expect("not poisoned").push(name);
        }
    }
}

#[tokio::test]
async fn gateway_without_message_ids_is_reported_and_its_messages_are_not_tracked() {
    let gateway = |name: Option<&str>, message_id: Option<&str>| {
        let (name, message_id) = (name.map(str::to_owned), message_id.map(str::to_owned));
        let mut gateway = MockGateway::new();
        gateway.expect_send().returning(move |message| {
            let mut receipt = Receipt::default();
            (receipt.gateway, receipt.message_id) = (name.clone(), message_id.clone());
            receipt.revealed_code = Some(message.code.clone());
            Ok(receipt)
        });
        gateway
    };
    let long = "g".repeat(65);
    for (name, message_id, is_kept, is_tracked) in [
        (Some("g1"), Some("m1"), true, true),
        (Some("g1"), None, true, false),
        (Some("g1"), Some("m\0"), true, false),
        (Some(&*long), Some("m1"), false, false),
        (None, Some("m1"), false, false),
    ] {
        let (recorder, routes) = (RecordingHook::default(), Routes::default());
        enter(
            &builder(gateway(name, message_id))
                .hook(Arc::new(recorder.clone()))
                .build()
                .expect("valid policy and keys"),
            1,
            None,
        )
        .await;
        enter(
            &builder(gateway(name, message_id))
                .hook(Arc::new(routes.clone()))
                .build()
                .expect("valid policy and keys"),
            1,
            None,
        )
        .await;
        let sent = name.map(|name| format!("{name} to RU"));
        let expected = [sent.clone(), sent.filter(|_| is_kept)];
        assert_eq!(*routes.0.lock().expect("not poisoned"), expected);

        let mut expected =
            vec!["4 digits to +79608000001", "sent by g1", "created +79608000001", "signed in"];
        expected.retain(|entry| is_tracked || *entry != "sent by g1");
        assert_eq!(*recorder.0.lock().expect("not poisoned"), expected);
    }
}

#[tokio::test]
async fn token_verified_without_the_storage_ignores_the_state_of_the_user() {
    let referral = referral(DevelopmentSender);
    let anna = enter(&referral, 1, None).await;
    referral.set_active(anna.user.id, false).await.expect("existing user");
    let access = &anna.tokens.access;
    let token = referral.verify_without_storage(access).expect("signed by this service and not expired");
    assert_eq!((token.user, token.session), (anna.user.id, anna.session));
    let refused = referral.verify(access, None).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TokenNotValid))), "{refused:?}");
    let refused = referral.verify_without_storage(&anna.tokens.refresh);
    assert!(matches!(refused, Err(Refusal::TokenNotValid)), "a refresh token: {refused:?}");
}

#[test]
fn invalid_policy_is_rejected() {
    let mut policy = Policy::standard();
    policy.code_length = 3;
    let error = builder(DevelopmentSender).policy(policy).build().map(|_| ()).expect_err("invalid policy");
    assert!(
        matches!(&error, BuildError::Policy(invalid) if invalid.code() == ErrorCode::InvalidPolicy),
        "{error:?}"
    );
}
