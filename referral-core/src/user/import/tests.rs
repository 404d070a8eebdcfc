//! Tests of the rule about batches.

use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::{
    invite::invitation::AcceptedVia,
    user::{name::Name, record::ErasedUser, staff_role::StaffRole, tests::user},
};

/// Returns the record of a numbered user, invited with the code of another one.
fn record(number: u8, inviter: Option<u8>) -> UserRecord {
    let invitation = inviter.map(|inviter| RecordedInvitation {
        inviter: None,
        code: user(inviter).invite_code,
        accepted_at: OffsetDateTime::UNIX_EPOCH,
        via: AcceptedVia::Import,
    });
    UserRecord { user: RecordedUser::Present(Box::new(user(number))), invitation }
}

fn erased(number: u8, inviter: Option<u8>) -> UserRecord {
    let user = user(number);
    let erased = ErasedUser {
        id: user.id,
        invite_code: user.invite_code,
        date_joined: user.date_joined,
        erased_at: OffsetDateTime::UNIX_EPOCH,
    };
    UserRecord { user: RecordedUser::Erased(erased), ..record(number, inviter) }
}

fn with(record: &UserRecord, change: impl Fn(&mut User)) -> UserRecord {
    let mut record = record.clone();
    if let RecordedUser::Present(user) = &mut record.user {
        change(user);
    }
    record
}

/// Storage that imports batches.
#[derive(Default)]
struct Stored {
    records: HashMap<UserId, UserRecord>,
}

impl Stored {
    fn facts(&self, batch: &ImportBatch) -> ImportFacts {
        let present = || self.records.values().filter_map(|record| record.user.present());
        let all = || self.records.values();
        let mut facts = ImportFacts {
            stored: batch.ids().filter_map(|id| Some((id, self.records.get(&id)?.clone()))).collect(),
            phones: present().map(|user| (user.phone.clone(), user.id)).collect(),
            codes: all().map(|record| (record.user.invite_code().clone(), record.user.id())).collect(),
            emails: present().filter_map(|user| Some((user.email.clone()?, user.id))).collect(),
            external_ids: present().filter_map(|user| Some((user.external_id.clone()?, user.id))).collect(),
            inviters: HashMap::new(),
        };
        let mut above = batch.late_inviters(&facts);
        while let Some(id) = above.pop() {
            let inviter = self.records.get(&id).and_then(|record| record.invitation.as_ref()?.inviter);
            if let Some(inviter) = inviter
                && facts.inviters.insert(id, inviter).is_none()
            {
                above.push(inviter);
            }
        }
        facts
    }

    fn import(&mut self, records: &[UserRecord]) -> Vec<ImportOutcome> {
        let batch = ImportBatch::new(records.to_vec());
        let facts = self.facts(&batch);
        let Decision { writes, outcome } = batch.decide(facts);
        for added in &writes.added {
            let mut user = added.clone();
            if let RecordedUser::Present(user) = &mut user {
                user.invited_by = None;
            }
            assert!(self.records.insert(added.id(), UserRecord { user, invitation: None }).is_none());
        }
        for invitation in &writes.invitations {
            let stored = self.records.get_mut(&invitation.invitee).expect("an added user");
            assert!(stored.invitation.is_none(), "one inviter");
            stored.invitation = Some(invitation.clone().into());
            let shown = writes.added.iter().filter_map(RecordedUser::present).chain(&writes.invited);
            let invited_by = shown.filter(|user| user.id == invitation.invitee).map(|user| &user.invited_by);
            let expected = InvitedBy { inviter: invitation.inviter, code: invitation.code.clone() };
            assert!(invited_by.into_iter().all(|invited_by| *invited_by == Some(expected.clone())));
        }
        outcome
    }
}

use ImportOutcome::{Added, Rejected, Stored as Kept};
use ImportedInvitation::{Added as Invited, Loop, None as NoInvitation, OwnCode, UnknownInviter};

#[test]
fn repeated_import_changes_nothing() {
    let records = [record(1, None), record(2, Some(1)), erased(3, Some(2)), record(4, Some(3))];
    let mut stored = Stored::default();
    let first = stored.import(&records);
    assert_eq!(first, [Added(NoInvitation), Added(Invited), Added(Invited), Added(Invited)]);
    let before = stored.records.clone();
    let again = stored.import(&records);
    let known = ImportedInvitation::Stored;
    assert_eq!(again, [Kept(NoInvitation), Kept(known), Kept(known), Kept(known)]);
    assert_eq!(stored.records, before);
}

#[test]
fn inviter_can_follow_in_the_batch_or_in_a_later_batch() {
    let mut stored = Stored::default();
    assert_eq!(
        stored.import(&[record(1, Some(2)), record(2, Some(3))]),
        [Added(Invited), Added(UnknownInviter)]
    );
    assert_eq!(stored.import(&[record(3, None)]), [Added(NoInvitation)]);
    assert_eq!(stored.import(&[record(2, Some(3))]), [Kept(Invited)]);
    assert_eq!(stored.import(&[record(2, Some(3))]), [Kept(ImportedInvitation::Stored)]);
}

#[test]
fn unknown_and_own_codes_and_other_inviters_leave_the_user_without_an_inviter() {
    let mut stored = Stored::default();
    let mut named = record(3, Some(1));
    named.invitation.as_mut().expect("an invitation").inviter = Some(user(9).id);
    let outcome = stored.import(&[record(1, Some(8)), record(2, Some(2)), named]);
    assert_eq!(outcome, [Added(UnknownInviter), Added(OwnCode), Added(UnknownInviter)]);
    assert!(stored.records.values().all(|record| record.invitation.is_none()));
}

#[test]
fn one_invitation_of_a_circle_is_left_out() {
    let circle = [record(1, Some(2)), record(2, Some(3)), record(3, Some(1))];
    assert_eq!(Stored::default().import(&circle), [Added(Invited), Added(Invited), Added(Loop)]);
    // The last invitation closes the circle only if the former ones are stored.
    let mut stored = Stored::default();
    assert_eq!(stored.import(&circle[..1]), [Added(UnknownInviter)]);
    assert_eq!(stored.import(&circle[1..]), [Added(Invited), Added(Invited)]);
    assert_eq!(stored.import(&circle[..1]), [Kept(Loop)]);
}

#[test]
fn unique_values_of_other_users_are_rejected() {
    let email = |user: &mut User| user.email = Email::parse("a@example.com").ok();
    let external_id = |user: &mut User| user.external_id = ExternalId::parse("a").ok();
    let mut stored = Stored::default();
    let anna = with(&with(&record(1, None), email), external_id);
    let id = anna.user.id();
    let conflicts = |number| {
        [
            (with(&record(number, None), |new| new.phone = user(1).phone), ImportRejection::PhoneTaken(id)),
            (
                with(&record(number, None), |new| new.invite_code = user(1).invite_code),
                ImportRejection::InviteCodeTaken(id),
            ),
            (with(&record(number, None), email), ImportRejection::EmailTaken(id)),
            (with(&record(number, None), external_id), ImportRejection::ExternalIdTaken(id)),
        ]
    };
    // In the same batch, and in a later one.
    let (conflicting, rejections): (Vec<_>, Vec<_>) = conflicts(2).into_iter().unzip();
    let outcome = stored.import(&[vec![anna], conflicting.clone()].concat());
    let rejections: Vec<_> = rejections.into_iter().map(Rejected).collect();
    assert_eq!(outcome[1..], rejections);
    assert_eq!(stored.import(&conflicting), rejections);
    assert_eq!(stored.records.len(), 1);
}

#[test]
fn stored_user_with_other_data_is_kept() {
    let mut stored = Stored::default();
    stored.import(&[record(1, None), record(2, None), record(3, Some(1))]);
    let renamed = with(&record(1, None), |user| user.first_name = Name::parse("Anna").ok());
    let staff = with(&renamed, |user| user.staff_role = Some(StaffRole::Admin));
    let outcome = stored.import(&[renamed, staff, record(3, Some(2))]);
    let differs = |fields: &[&'static str]| Rejected(ImportRejection::Differs(fields.to_vec()));
    let expected =
        [differs(&["first_name"]), differs(&["first_name", "staff_role"]), differs(&["invited_by_code"])];
    assert_eq!(outcome, expected);
}

#[test]
fn sign_ins_and_invitations_since_the_record_are_no_difference() {
    let at = |seconds| Some(OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds));
    let signed_in = |seconds| with(&record(1, None), |user| user.last_login = at(seconds));
    let mut stored = Stored::default();
    stored.import(&[signed_in(2), record(2, None), record(3, Some(2))]);
    let outcome = stored.import(&[record(1, None), signed_in(1), signed_in(2)]);
    assert!(outcome.iter().all(|outcome| *outcome == Kept(NoInvitation)));
    assert_eq!(stored.import(&[record(3, None)]), [Kept(NoInvitation)]);
    let newer = Rejected(ImportRejection::Differs(vec!["last_login"]));
    assert_eq!(stored.import(&[signed_in(3)]), [newer]);
}

#[test]
fn deleted_users_stay_deleted() {
    let mut stored = Stored::default();
    stored.import(&[erased(1, None), record(2, None)]);
    let outcome = stored.import(&[record(1, None), erased(2, None), erased(1, None)]);
    assert_eq!(
        outcome,
        [Rejected(ImportRejection::Deleted), Rejected(ImportRejection::NotDeleted), Kept(NoInvitation)]
    );
    let code = with(&record(3, None), |new| new.invite_code = user(1).invite_code);
    let taken = Rejected(ImportRejection::InviteCodeTaken(user(1).id));
    assert_eq!(stored.import(&[code]), [taken], "the code of a deleted user");
}

proptest! {
    /// Any graph, in batches of any size and imported twice, has no loop, and each invitation that creates
    /// none is stored.
    #[test]
    fn no_import_creates_a_loop(
        inviters in prop::collection::vec(prop::option::of(0_u8..12), 1..12),
        size in 1_usize..6,
    ) {
        let records: Vec<_> =
            (0_u8..).zip(&inviters).map(|(number, inviter)| record(number, *inviter)).collect();
        let mut stored = Stored::default();
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            outcomes.clear();
            for batch in records.chunks(size) {
                outcomes.extend(stored.import(batch));
            }
        }
        for (record, outcome) in records.iter().zip(outcomes) {
            let id = record.user.id();
            let (mut above, mut steps) = (Some(id), 0);
            while let Some(user) = above {
                above = stored.records[&user].invitation.as_ref().and_then(|invitation| invitation.inviter);
                steps += 1;
                prop_assert!(steps <= records.len(), "a loop");
            }
            let has_inviter = stored.records[&id].invitation.is_some();
            let left_out = matches!(outcome, Kept(UnknownInviter | OwnCode | Loop));
            prop_assert_eq!(has_inviter, record.invitation.is_some() && !left_out);
        }
    }
}
