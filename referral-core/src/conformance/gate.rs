//! Cases about sign-ins and edits that the gate of the host must approve, with other requests in between.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::harness::{Harness, assert_refused, in_parallel, phone, with_right_code};
use crate::{
    error::{Error, refusal::Refusal},
    gate::{Caller, Gate, Rejection, RequestedInvitation, RequestedSignUp, Verdict},
    invite::code::InviteCode,
    otp::sign_in::InvitationOutcome,
    service::{host::CreateUser, sessions::CurrentUser, sign_in::SignIn, users::EditProfile},
    storage::{Storage, error::BoxError},
    test_util::{GateQuestion, RecordingGate},
    user::profile::ProfileChange,
};

type Action = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gate that performs an action while it is asked for the first time about a sign-up or an invitation. It
/// allows everything.
struct Meanwhile {
    action: Mutex<Option<Action>>,
    recorded: RecordingGate,
}

impl Meanwhile {
    /// Returns the service with this gate, and the record of its questions.
    fn on(service: &Harness, action: impl Future<Output = ()> + Send + 'static) -> (Harness, RecordingGate) {
        let recorded = RecordingGate::new(|_| Ok(Verdict::Allow));
        let gate = Self { action: Mutex::new(Some(Box::pin(action))), recorded: recorded.clone() };
        (service.with_gate(gate), recorded)
    }

    async fn act(&self) {
        let action = mem::take(&mut *self.action.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(action) = action {
            action.await;
        }
    }
}

#[async_trait]
impl Gate for Meanwhile {
    async fn before_sign_up(&self, caller: &Caller, sign_up: &RequestedSignUp) -> Result<Verdict, BoxError> {
        self.act().await;
        self.recorded.before_sign_up(caller, sign_up).await
    }

    async fn before_invitation(
        &self,
        caller: &Caller,
        invitation: &RequestedInvitation,
    ) -> Result<Verdict, BoxError> {
        self.act().await;
        self.recorded.before_invitation(caller, invitation).await
    }
}

fn rejection() -> Rejection {
    Rejection::new("not_yet", "Sign-ups start in May.").expect("valid")
}

fn invited_by(code: &InviteCode) -> EditProfile {
    EditProfile::new(ProfileChange { invited_by_code: Some(code.clone()), ..ProfileChange::default() })
}

/// A rejection stores nothing, and the code and the invite code remain usable.
pub async fn rejected_sign_up_stores_nothing_and_leaves_the_code_usable(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let anna = service.enter(1).await;
    let gate = RecordingGate::new(|question| match question {
        GateQuestion::SignUp(..) => Ok(Verdict::Reject(rejection())),
        _ => Ok(Verdict::Allow),
    });
    let gated = service.with_gate(gate.clone());
    let sent = gated.sent_code(&phone(2)).await;
    let request = with_right_code(&sent).invited_by(anna.user.invite_code.clone());
    for _ in 0..3 {
        assert_refused(gated.sign_in(request.clone()).await, Refusal::RejectedByHost(rejection()));
    }
    let user = service.referral.find_user_by_phone(&phone(2)).await.expect("loaded");
    assert_eq!(user, None, "no user was created");
    assert_eq!(service.profile(&anna).await.invited_count, 0);

    let boris = service.sign_in(request).await.expect("the code is still valid");
    assert!(boris.created);
    assert_eq!(service.profile(&anna).await.invited_count, 1);
    assert_eq!(gate.questions().len(), 1 + 3, "the gate is asked once for each attempt");
}

/// A rejected invitation of an existing user stores nothing, and the user can sign in without it.
pub async fn rejected_invitation_leaves_the_code_usable_without_it(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let (anna, boris) = (service.enter(1).await, service.enter(2).await);
    let gated = service.with_gate(RecordingGate::new(|question| match question {
        GateQuestion::Invitation(..) => Ok(Verdict::Reject(rejection())),
        _ => Ok(Verdict::Allow),
    }));
    let sent = gated.sent_code(&phone(2)).await;
    let request = with_right_code(&sent).invited_by(anna.user.invite_code.clone());
    assert_refused(gated.sign_in(request.clone()).await, Refusal::RejectedByHost(rejection()));
    let current_user = service.current_user(&boris).await;
    let edited = gated.referral.edit_profile(&current_user, invited_by(&anna.user.invite_code)).await;
    assert_refused(edited, Refusal::RejectedByHost(rejection()));
    assert_eq!(service.profile(&anna).await.invited_count, 0);

    let again = gated.sign_in(SignIn { invited_by_code: None, ..request }).await.expect("signed in");
    assert_eq!((again.created, again.user.invited_by), (false, None));
}

/// If another request creates the user while the gate decides, the approval of the sign-up is not used: the
/// invitation of the existing user requires its own approval.
pub async fn user_created_while_the_gate_decides_is_signed_in(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let anna = service.enter(1).await;
    let host = service.referral.clone();
    let create = async move {
        host.create_user(CreateUser::new(phone(2))).await.expect("created");
    };
    let (gated, recorded) = Meanwhile::on(&service, create);
    let boris = gated.try_enter(&phone(2), Some(&anna.user.invite_code)).await.expect("signed in");
    assert_eq!((boris.created, boris.invitation), (false, InvitationOutcome::Accepted));
    match &recorded.questions()[..] {
        [
            GateQuestion::SignUp(_, sign_up),
            GateQuestion::Invitation(_, at_sign_up),
            GateQuestion::Invitation(caller, later),
        ] => {
            assert_eq!(sign_up.invitation.as_ref(), Some(at_sign_up));
            assert_eq!((at_sign_up.inviter, at_sign_up.invitee), (anna.user.id, None));
            assert_eq!((later.inviter, later.invitee), (anna.user.id, Some(boris.user.id)));
            assert_eq!(caller.phone, phone(2));
        }
        other => panic!("{other:?}"),
    }
    service.assert_sound(&service.current_user(&anna).await).await;
}

/// If another request redeems the code while the gate decides, the code is invalid, and the attempt is not
/// counted.
pub async fn code_redeemed_while_the_gate_decides_is_refused(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let sent = service.sent_code(&phone(1)).await;
    let (other, request) = (service.clone(), with_right_code(&sent));
    let redeem = async move {
        assert!(other.sign_in(request).await.expect("signed in").created);
    };
    let (gated, _) = Meanwhile::on(&service, redeem);
    assert_refused(gated.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);
    let again = service.enter(1).await;
    assert!(!again.created);
    let current_user = service.current_user(&again).await;
    let sessions = service.referral.sessions(&current_user).await.expect("listed");
    assert_eq!(sessions.len(), 2, "the refused attempt started no session");
}

/// If the user accepts another invitation while the gate decides, the first inviter stays the inviter.
pub async fn inviter_that_is_set_while_the_gate_decides_stays(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let (anna, boris) = (service.enter(1).await, service.enter(2).await);
    let [vera, gleb] = [service.enter(3).await, service.enter(4).await];
    let set_inviter = |current_user: CurrentUser| {
        let (referral, code) = (service.referral.clone(), boris.user.invite_code.clone());
        async move {
            referral.edit_profile(&current_user, invited_by(&code)).await.expect("accepted");
        }
    };
    let (gated, _) = Meanwhile::on(&service, set_inviter(service.current_user(&vera).await));
    let signed_in = gated.try_enter(&phone(3), Some(&anna.user.invite_code)).await.expect("signed in");
    assert_eq!(signed_in.invitation, InvitationOutcome::Ignored);

    let current_user = service.current_user(&gleb).await;
    let (gated, _) = Meanwhile::on(&service, set_inviter(current_user.clone()));
    let edited = gated.referral.edit_profile(&current_user, invited_by(&anna.user.invite_code)).await;
    assert_refused(edited, Refusal::InvitationAlreadyAccepted);

    let invited = [service.profile(&anna).await.invited_count, service.profile(&boris).await.invited_count];
    assert_eq!(invited, [0, 2]);
    service.assert_sound(&service.current_user(&anna).await).await;
}

/// Concurrent sign-ins with one code are approved concurrently, and one of them succeeds.
pub async fn parallel_sign_ins_with_an_approved_code_redeem_it_once(storage: Arc<dyn Storage>) {
    let service = Harness::new(storage);
    let anna = service.enter(1).await;
    let gated = service.with_gate(RecordingGate::new(|_| Ok(Verdict::Allow)));
    let request =
        with_right_code(&gated.sent_code(&phone(2)).await).invited_by(anna.user.invite_code.clone());
    let results = in_parallel(8, |_| {
        let (gated, request) = (gated.clone(), request.clone());
        async move { gated.sign_in(request).await }
    })
    .await;
    let created = results.iter().flatten().filter(|signed_in| signed_in.created).count();
    assert_eq!((created, results.iter().flatten().count()), (1, 1));
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, Error::Refused(Refusal::InvalidCode)), "{error:?}");
    }
    assert_eq!(service.profile(&anna).await.invited_count, 1);
    service.assert_sound(&service.current_user(&anna).await).await;
}
