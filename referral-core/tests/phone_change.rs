//! Changes of phones: events, notices, the gate and test numbers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    ChangePhone, CodeInput, CurrentUser, Error, PhoneNumber, Refusal, SendPhoneChangeCode, SentCode,
    StaffRole,
    events::{Event, Hook, NoticeNotSent, NoticeSent, PhoneChanged, SessionEnd, SessionEnded},
    gate::{GateOptions, Rejection, Verdict},
    policy::{Budget, Policy, TestNumber},
    sms::{Notice, SmsError},
    storage::MemoryStorage,
    test_util::{FailingSender, GateQuestion, RecordingGate, RecordingSender, TestService},
};

const OLD: &str = "+79608543017";
const NEW: &str = "+77011234567";

/// Hook that records the events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

#[async_trait]
impl Hook for Events {
    async fn on_event(&self, event: &Event) {
        self.0.lock().expect("not poisoned").push(event.clone());
    }
}

fn phone(number: &str) -> PhoneNumber {
    PhoneNumber::parse(number, None).expect("valid number")
}

async fn send(service: &TestService, current_user: &CurrentUser, to: &str) -> Result<SentCode, Error> {
    service.referral.send_phone_change_code(current_user, SendPhoneChangeCode::new(phone(to))).await
}

/// Returns the change with the code in the newest message.
fn change(sender: &RecordingSender, sent: &SentCode) -> ChangePhone {
    let message = sender.messages().pop().expect("a message");
    let code = CodeInput::parse(message.code.reveal()).expect("digits");
    ChangePhone::new(sent.phone.clone(), sent.challenge, code)
}

async fn current_user(service: &TestService, number: &str) -> CurrentUser {
    let signed_in = service.sign_in_as(number).await;
    service.referral.authenticate(&signed_in.tokens.access).await.expect("a user")
}

#[tokio::test]
async fn a_change_emits_its_events_and_sends_a_notice_to_the_former_phone() {
    let events = Events::default();
    let storage = Arc::new(MemoryStorage::new());
    let service = TestService::with_builder(storage, |builder| builder.hook(Arc::new(events.clone())));
    let other = current_user(&service, OLD).await;
    let anna = current_user(&service, OLD).await;
    let sent = send(&service, &anna, NEW).await.expect("sent");
    assert!(service.sender.notices().is_empty(), "a request for a code sends no notice");
    assert_eq!(service.sender.messages().pop().expect("a message").purpose.as_str(), "change_phone");
    events.take();

    let mut wrong = change(&service.sender, &sent);
    wrong.code = CodeInput::parse("00000").expect("digits");
    service.referral.change_phone(&anna, wrong).await.expect_err("a wrong code");
    assert!(
        matches!(&events.take()[..], [Event::CodeRefused(refused)] if refused.purpose.as_str() == "change_phone")
    );
    assert!(service.sender.notices().is_empty());

    let request = change(&service.sender, &sent).locales(["ru".parse().expect("a locale")]);
    service.referral.change_phone(&anna, request).await.expect("changed");
    let [notice] = &service.sender.notices()[..] else { panic!("one notice") };
    assert_eq!(notice.phone, phone(OLD));
    assert_eq!(notice.notice, Notice::PhoneChanged { new: phone(NEW) });
    assert!(notice.text.reveal().contains("…67") && !notice.text.reveal().contains("701"), "{notice:?}");
    let events = events.take();
    let [
        Event::PhoneChanged(PhoneChanged { user, old, new, .. }),
        Event::SessionEnded(SessionEnded { session, reason: SessionEnd::PhoneChanged, .. }),
        Event::Audited(_),
        Event::NoticeSent(NoticeSent { phone: notified, .. }),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*user, old, new), (anna.user.id, &phone(OLD), &phone(NEW)));
    assert_eq!((*session, notified), (other.session, &phone(OLD)));
}

#[tokio::test]
async fn a_failed_notice_does_not_fail_the_change() {
    let storage = Arc::new(MemoryStorage::new());
    let service = TestService::with_storage(storage.clone());
    let anna = current_user(&service, OLD).await;
    let sent = send(&service, &anna, NEW).await.expect("sent");
    let events = Events::default();
    let failing = {
        use referral_core::keys::{Peppers, SigningKeys};
        let sender = FailingSender::new(SmsError::Temporary("out of order".into()));
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("sufficient length");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("sufficient length");
        let builder = referral_core::ReferralService::builder(storage, Arc::new(sender), keys, peppers);
        builder.clock(Arc::new(service.clock.clone())).hook(Arc::new(events.clone())).build().expect("valid")
    };
    let changed = failing.change_phone(&anna, change(&service.sender, &sent)).await.expect("changed");
    assert_eq!(changed.user.phone.as_str(), NEW);
    let events = events.take();
    assert!(
        matches!(
            &events[..],
            [Event::PhoneChanged(_), Event::Audited(_), Event::NoticeNotSent(NoticeNotSent { .. })]
        ),
        "{events:?}"
    );
}

#[tokio::test]
async fn gate_is_asked_about_the_new_phone() {
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::Send(caller) if caller.phone.as_str() == NEW => {
            Ok(Verdict::Reject(Rejection::new("captcha_required", "Solve the captcha.").expect("valid")))
        }
        _ => Ok(Verdict::Allow),
    });
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
        builder.gate(Arc::new(gate.clone()), GateOptions::default())
    });
    let anna = current_user(&service, OLD).await;
    let refused = send(&service, &anna, NEW).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::RejectedByHost(_)))), "{refused:?}");
    send(&service, &anna, "+79608543099").await.expect("allowed");
}

#[tokio::test]
async fn test_numbers_get_no_messages_and_staff_do_not_get_test_numbers() {
    let mut policy = Policy::development();
    let until = service_start() + Duration::from_hours(24 * 365);
    policy.test_numbers = vec![TestNumber::new(phone(NEW), "47110815", until).expect("valid")];
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.policy(policy));
    let anna = current_user(&service, OLD).await;
    let messages = service.sender.messages().len();
    let sent = send(&service, &anna, NEW).await.expect("sent");
    assert_eq!(service.sender.messages().len(), messages);
    let code = CodeInput::parse("47110815").expect("digits");
    let request = ChangePhone::new(phone(NEW), sent.challenge, code);
    service.referral.change_phone(&anna, request).await.expect("changed");
    assert_eq!(service.sender.notices().len(), 1, "the former phone is no test number");

    let anna = current_user(&service, NEW).await;
    let sent = send(&service, &anna, OLD).await.expect("sent");
    service.referral.change_phone(&anna, change(&service.sender, &sent)).await.expect("changed");
    assert_eq!(service.sender.notices().len(), 1, "the former phone is a test number");

    service.referral.make_staff(phone(OLD), StaffRole::Admin).await.expect("made");
    let staff = current_user(&service, OLD).await;
    let refused = send(&service, &staff, NEW).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TestNumber))), "{refused:?}");
}

#[tokio::test]
async fn a_notice_uses_up_the_budget_of_messages() {
    let mut policy = Policy::development();
    policy.messages_per_day = Some(Budget::Messages(3));
    let service = TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| builder.policy(policy));
    let anna = current_user(&service, OLD).await;
    let sent = send(&service, &anna, NEW).await.expect("sent");
    service.referral.change_phone(&anna, change(&service.sender, &sent)).await.expect("changed");
    assert_eq!(service.sender.notices().len(), 1);
    let refused = service.referral.send_code(referral_core::SendCode::new(phone(OLD))).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TooManyRequests { .. }))), "{refused:?}");
}

/// Returns the start of the clock of a [`TestService`].
fn service_start() -> time::OffsetDateTime {
    use referral_core::clock::Clock as _;
    TestService::new().clock.now()
}
