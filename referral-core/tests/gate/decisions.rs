//! Questions to the gate, and its rejections.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    AcceptedVia, Client, CodeInput, CreateUser, Error, ErrorCode, InviteCode, Refusal, SendCode,
    SendDeletionCode, SentCode, SignIn, StaffRole,
    events::{CodeNotSent, Event, Hook, SignInRefused},
    gate::{Caller, Context, GateOptions, GateOutcome, Rejection, Verdict},
    policy::Policy,
    storage::MemoryStorage,
    test_util::{GateQuestion, RecordingGate, TestService},
};
use serde_json::json;

pub(crate) const ANNA: &str = "+79608543017";
const BORIS: &str = "+77011234567";

/// Hook that records the events.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

#[async_trait]
impl Hook for Events {
    async fn on_event(&self, event: &Event) {
        self.0.lock().expect("not poisoned").push(event.clone());
    }
}

fn rejection() -> Rejection {
    Rejection::new("captcha_required", "Solve the captcha.").expect("valid")
}

fn reject() -> Verdict {
    Verdict::Reject(rejection())
}

/// Rejects each request without the solution of a captcha.
fn check_captcha(caller: &Caller) -> Verdict {
    match caller.context.get("captcha") {
        Some(solution) if solution == "solved" => Verdict::Allow,
        _ => reject(),
    }
}

fn solved() -> Context {
    Context::try_from(json!({ "captcha": "solved" })).expect("valid")
}

fn service(policy: Policy, gate: &RecordingGate, events: &Events) -> TestService {
    TestService::with_builder(Arc::new(MemoryStorage::new()), |builder| {
        let builder = builder.policy(policy).hook(Arc::new(events.clone()));
        builder.gate(Arc::new(gate.clone()), GateOptions::default())
    })
}

fn send(service: &TestService, phone: &str) -> SendCode {
    SendCode::new(service.referral.parse_phone(phone).expect("valid"))
}

fn sign_in(service: &TestService, sent: &SentCode) -> SignIn {
    let message = service.sender.messages().pop().expect("sent");
    let code = CodeInput::parse(message.code.reveal()).expect("digits");
    SignIn::new(sent.phone.clone(), code).challenge(sent.challenge)
}

fn is_rejected<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::RejectedByHost(actual))) if *actual == rejection())
}

#[tokio::test]
async fn rejected_code_is_neither_sent_nor_counted() {
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::Send(caller) => Ok(check_captcha(caller)),
        _ => Ok(Verdict::Allow),
    });
    let events = Events::default();
    let service = service(Policy::standard(), &gate, &events);
    let request = send(&service, ANNA);
    // The limits of the policy allow fewer codes.
    for _ in 0..20 {
        assert!(is_rejected(&service.referral.send_code(request.clone()).await));
    }
    match &events.take()[..2] {
        [Event::GateDecided(decided), Event::CodeNotSent(CodeNotSent { reason, .. })] => {
            assert_eq!(decided.outcome, GateOutcome::Rejected(rejection()));
            let reason = reason.as_ref().expect("refused");
            assert_eq!((reason.code(), reason.reason()), (ErrorCode::RejectedByHost, "rejected_by_host"));
            assert_eq!(reason.message(), "Solve the captcha.");
        }
        other => panic!("{other:?}"),
    }
    assert!(service.sender.messages().is_empty());

    service.referral.send_code(request.context(solved())).await.expect("sent");
    assert_eq!(service.sender.messages().len(), 1);
}

#[tokio::test]
async fn gate_is_not_asked_about_the_deletion_of_the_own_account() {
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::Send(caller) => Ok(check_captcha(caller)),
        _ => Ok(Verdict::Allow),
    });
    let service = service(Policy::development(), &gate, &Events::default());
    let sent = service.referral.send_code(send(&service, ANNA).context(solved())).await.expect("sent");
    let anna = service.referral.sign_in(sign_in(&service, &sent)).await.expect("signed in");
    let current_user = service.referral.authenticate(&anna.tokens.access).await.expect("a user");
    let asked = gate.questions().len();

    let sent = service.referral.send_deletion_code(&current_user, SendDeletionCode::default()).await;
    sent.expect("sent without a captcha");
    assert_eq!(gate.questions().len(), asked);
}

#[tokio::test]
async fn gate_receives_the_request() {
    let gate = RecordingGate::new(|_| Ok(Verdict::Allow));
    let service = service(Policy::development(), &gate, &Events::default());
    let anna = service.sign_in_as(ANNA).await;
    let client = Client::default().address("203.0.113.7".parse::<std::net::IpAddr>().expect("an address"));
    let client = client.user_agent("app/1.0".to_owned());
    let locales = ["ru".parse().expect("a locale"), "en".parse().expect("a locale")];
    let request = send(&service, BORIS).locales(locales.clone()).client(client.clone()).context(solved());
    let sent = service.referral.send_code(request).await.expect("sent");
    let request = sign_in(&service, &sent).invited_by(anna.user.invite_code.clone());
    let request = request.locales(locales.clone()).client(client).context(solved());
    service.referral.sign_in(request).await.expect("signed in");

    let questions = gate.questions().split_off(2);
    let [
        GateQuestion::Send(caller),
        GateQuestion::SignUp(at_sign_up, sign_up),
        GateQuestion::Invitation(at_invitation, invitation),
    ] = &questions[..]
    else {
        panic!("{questions:?}");
    };
    for caller in [caller, at_sign_up, at_invitation] {
        assert_eq!(caller.phone.as_str(), BORIS);
        assert_eq!(caller.region.map(|region| region.to_string()), Some("KZ".into()));
        assert_eq!(caller.address.map(|address| address.to_string()), Some("203.0.113.7".into()));
        assert_eq!(caller.user_agent.as_deref(), Some("app/1.0"));
        assert_eq!(caller.locales, locales);
        assert_eq!(caller.context, solved());
    }
    assert_eq!(sign_up.invitation.as_ref(), Some(invitation));
    assert_eq!((invitation.inviter, invitation.invitee), (anna.user.id, None));
    assert_eq!((&invitation.code, invitation.via), (&anna.user.invite_code, AcceptedVia::SignUp));
}

/// A question before a correct code would reveal to the host, and by its duration to the client, whether the
/// phone has a user.
#[tokio::test]
async fn gate_is_not_asked_about_a_user_before_a_correct_code() {
    let gate = RecordingGate::new(|_| Ok(Verdict::Allow));
    let service = service(Policy::development(), &gate, &Events::default());
    service.sign_in_as(ANNA).await;
    let before = gate.questions().len();
    for phone in [ANNA, BORIS] {
        let sent = service.referral.send_code(send(&service, phone)).await.expect("sent");
        let right = service.sender.messages().pop().expect("sent").code;
        let right = right.reveal();
        let code = if right.starts_with('0') { "1" } else { "0" }.repeat(right.len());
        let wrong = SignIn::new(sent.phone, CodeInput::parse(&code).expect("digits"));
        let refused = service.referral.sign_in(wrong.challenge(sent.challenge)).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::InvalidCode))), "{refused:?}");
    }
    let asked = gate.questions().split_off(before);
    assert!(matches!(asked[..], [GateQuestion::Send(_), GateQuestion::Send(_)]), "{asked:?}");
}

#[tokio::test]
async fn gate_is_asked_about_new_users_and_invitations_only() {
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::Send(_) => Ok(Verdict::Allow),
        _ => Ok(reject()),
    });
    let service = service(Policy::development(), &gate, &Events::default());
    // Users that the host adds need no approval, and neither do sign-ins of existing users.
    for phone in [ANNA, BORIS] {
        let phone = service.referral.parse_phone(phone).expect("valid");
        service.referral.create_user(CreateUser::new(phone.clone())).await.expect("created");
        service.referral.make_staff(phone, StaffRole::Admin).await.expect("staff");
    }
    let anna = service.sign_in_as(ANNA).await;
    let sent = service.referral.send_code(send(&service, BORIS)).await.expect("sent");
    let unknown = InviteCode::parse("AAAAAA").expect("valid");
    let refused = service.referral.sign_in(sign_in(&service, &sent).invited_by(Some(unknown))).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::UnknownInviteCode))), "{refused:?}");
    assert!(gate.questions().iter().all(|question| matches!(question, GateQuestion::Send(_))));

    let request = sign_in(&service, &sent).invited_by(anna.user.invite_code);
    assert!(is_rejected(&service.referral.sign_in(request).await));
    assert!(matches!(gate.questions().last(), Some(GateQuestion::Invitation(..))));
}

#[tokio::test]
async fn rejected_sign_ups_of_a_phone_are_limited() {
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::SignUp(caller, _) => Ok(check_captcha(caller)),
        _ => Ok(Verdict::Allow),
    });
    let events = Events::default();
    let service = service(Policy::development(), &gate, &events);
    let sent = service.referral.send_code(send(&service, ANNA)).await.expect("sent");
    let request = sign_in(&service, &sent);
    for _ in 0..10 {
        assert!(is_rejected(&service.referral.sign_in(request.clone()).await));
    }
    assert!(matches!(
        events.take().last(),
        Some(Event::SignInRefused(SignInRefused { reason: Refusal::RejectedByHost(_), .. }))
    ));
    let refused = service.referral.sign_in(request.context(solved())).await;
    let Err(Error::Refused(Refusal::TooManyRequests { retry_after, limit })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(limit.as_str(), "gate_questions");
    assert_eq!(gate.questions().len(), 1 + 10);

    service.clock.advance(retry_after);
    assert_eq!(retry_after, Duration::from_hours(1));
    let sent = service.referral.send_code(send(&service, ANNA)).await.expect("sent");
    service.referral.sign_in(sign_in(&service, &sent).context(solved())).await.expect("signed in");
}
