use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::*;
use crate::{
    invite::invitation::{AcceptedVia, Invitation},
    keys::{jwk::KeyPurpose, registry::RegisteredKey},
    otp::challenge::{Challenge, ChallengeId, FailedAttempt},
    rate_limit::{
        attack::GlobalCounter,
        counters::{Counter, EventKind},
    },
    session::{IssuedTokens, Session, SessionId, SupersededToken},
    shared_settings::SharedSetting,
    sms::delivery::{DeliveryStatus, StoredMessage},
    user::{InvitedBy, User, UserId, staff_role::StaffRole},
};

const NOW: OffsetDateTime = datetime!(2026-11-30 12:34:56.789_012 UTC);
const MICROS: i64 = 1_796_042_096_789_012;

/// Asserts that a round trip keeps the value. Each field of the value should differ from its default, so that
/// the test detects a lost field.
#[track_caller]
fn assert_round_trip<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) -> Value {
    let serialized = to_value(value).expect("serialized");
    assert_eq!(&from_value::<T>(serialized.clone()).expect("deserialized"), value, "{serialized}");
    serialized
}

fn phone() -> PhoneNumber {
    PhoneNumber::from_stored("+79608543017".to_owned()).expect("valid")
}

fn code() -> InviteCode {
    InviteCode::parse("ABC123").expect("valid")
}

fn address() -> ClientAddress {
    "203.0.113.9".parse().expect("valid")
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn user() -> User {
    User {
        id: UserId(id(1)),
        phone: phone(),
        invite_code: code(),
        invited_by: Some(InvitedBy { inviter: UserId(id(2)), code: code() }),
        invited_count: 3,
        email: Email::parse("anna@example.com").ok(),
        first_name: Name::parse("Анна").ok(),
        last_name: Name::parse("O'Neil").ok(),
        staff_role: Some(StaffRole::Support),
        is_active: true,
        date_joined: NOW,
        last_login: Some(NOW),
        last_active: Some(NOW),
        phone_detached_at: Some(NOW),
        external_id: ExternalId::parse("a|1").ok(),
        metadata: r#"{"plan":{"name":"gold","price":1.5}}"#.parse().expect("valid"),
        deletion_at: Some(NOW),
    }
}

#[test]
fn users_and_invitations_round_trip() {
    let serialized = assert_round_trip(&user());
    assert_eq!(serialized["phone"], "+79608543017");
    assert_eq!(serialized["date_joined"], MICROS);
    assert_eq!(serialized["last_login"], MICROS);
    assert_eq!(serialized["metadata"], json!({"plan": {"name": "gold", "price": 1.5}}));
    assert_eq!(serialized["deletion_at"], MICROS);
    let absent = User { invited_by: None, email: None, first_name: None, last_login: None, ..user() };
    let new = User { deletion_at: None, ..absent };
    let mut serialized = assert_round_trip(&User { external_id: None, ..new.clone() });
    serialized
        .as_object_mut()
        .expect("a map")
        .retain(|key, _| !matches!(&**key, "external_id" | "metadata" | "deletion_at"));
    let former = User { external_id: None, metadata: Metadata::default(), ..new };
    assert_eq!(from_value::<User>(serialized).expect("the form before these fields"), former);
    for via in AcceptedVia::ALL {
        let (invitee, inviter) = (UserId(id(1)), UserId(id(2)));
        let serialized =
            assert_round_trip(&Invitation { invitee, inviter, code: code(), accepted_at: NOW, via });
        assert_eq!(serialized["via"], via.as_str());
    }
}

#[test]
fn challenges_round_trip() {
    let challenge = Challenge {
        id: ChallengeId(id(1)),
        phone: phone(),
        signs_in: true,
        code_length: 6,
        code_hash: std::array::from_fn(|index| u8::try_from(index).expect("32 bytes")),
        pepper_id: "p1".to_owned(),
        sent_at: NOW,
        expires_at: NOW,
        redeemed_at: Some(NOW),
        attempts_with_id: 1,
        attempts_without_id: 2,
        address: Some(address()),
        failed_attempts: vec![FailedAttempt { address: address(), at: NOW }],
        gateway: Some("g1".to_owned()),
    };
    assert_round_trip(&challenge);
    assert_round_trip(&Challenge { redeemed_at: None, address: None, gateway: None, ..challenge });
}

#[test]
fn sessions_round_trip() {
    let session = Session {
        id: SessionId(id(1)),
        user: UserId(id(2)),
        created_at: NOW,
        expires_at: NOW,
        revoked_at: Some(NOW),
        issued: IssuedTokens {
            key_id: "k1".to_owned(),
            access_id: id(3),
            refresh_id: id(4),
            issued_at: NOW,
            access_expires_at: NOW,
            refresh_expires_at: NOW,
            claims: CustomClaims::from_stored(r#"{"https://example.com":["Анна",1.5]}"#).ok(),
        },
        tokens_used: true,
        previous_refresh_id: Some(id(5)),
        repeated_late: true,
        late_repeats: 2,
        superseded: vec![SupersededToken { refresh_id: id(6), at: NOW }],
        address: "2001:db8:1:2::1".parse().ok(),
        user_agent: Some("curl/8.0".to_owned()),
    };
    let serialized = assert_round_trip(&session);
    assert_eq!(serialized["address"], "2001:db8:1:2::/64");
    assert_eq!(serialized["issued"]["claims"], r#"{"https://example.com":["Анна",1.5]}"#);
    assert_round_trip(&Session { revoked_at: None, previous_refresh_id: None, address: None, ..session });
}

#[test]
fn counters_round_trip() {
    let keys = CounterKey::networks("2001:db8:1:2::1".parse::<ClientAddress>().ok())
        .chain([CounterKey::phone(&phone()), CounterKey::number_range(&phone())])
        .chain(CounterKey::shares_of_address(&phone(), address()));
    for key in keys {
        let events = EventKind::ALL.map(|kind| CountedEvent { at: NOW, kind }).to_vec();
        let serialized = assert_round_trip(&Counter { key, events, ends_at: NOW });
        assert_eq!(serialized["events"][1], MICROS * 8 + 1);
    }
    for counter in [GlobalCounter::FailedAttempts, GlobalCounter::Messages] {
        assert_eq!(assert_round_trip(&counter), counter.as_str());
    }
}

#[test]
fn messages_keys_and_settings_round_trip() {
    assert_round_trip(&MessageKey::new("g1", "m1").expect("valid"));
    for status in DeliveryStatus::ALL {
        let message = StoredMessage { is_ours: true, region: Region::parse("RU").ok(), status };
        let expected = json!({"is_ours": true, "region": "RU", "status": status.as_str()});
        assert_eq!(assert_round_trip(&message), expected);
    }
    for purpose in KeyPurpose::ALL {
        let (id, fingerprint) = ("k1".to_owned(), [7; 16]);
        let key = RegisteredKey { purpose, id, fingerprint, needed_until: Some(NOW) };
        assert_eq!(assert_round_trip(&key)["purpose"], purpose.as_str());
        assert_round_trip(&RegisteredKey { needed_until: None, ..key });
    }
    assert_round_trip(&SharedSetting::new("issuer", "one"));
}

#[test]
fn times_before_1970_round_trip() {
    let early = User { date_joined: datetime!(1969-12-31 23:59:59.999_999 UTC), ..user() };
    assert_eq!(assert_round_trip(&early)["date_joined"], -1);
}

#[test]
fn invalid_values_are_rejected() {
    #[track_caller]
    fn assert_rejected<T: DeserializeOwned + Debug>(invalid: impl Into<Value>) {
        let error = from_value::<T>(invalid.into()).expect_err("invalid");
        assert!(!error.to_string().contains("960"), "the error does not repeat the value: {error}");
    }
    assert_rejected::<PhoneNumber>("79608543017");
    assert_rejected::<PhoneNumber>("+7 960 854-30-17");
    assert_rejected::<Email>("Anna@Example.com");
    assert_rejected::<Name>("\u{7}");
    assert_rejected::<ExternalId>("");
    assert_rejected::<Metadata>(json!({"a": "\0"}));
    assert_rejected::<Metadata>("{}");
    assert_rejected::<InviteCode>("abc123");
    assert_rejected::<InviteCode>("https://example.com/ABC123");
    assert_rejected::<ClientAddress>("nowhere");
    assert_rejected::<Region>("ZZ");
    assert_rejected::<CounterKey>("unknown/+79608543017");
    assert_rejected::<CountedEvent>(5);
    for claims in
        ["", "1", "{}", r#"{"a:b":1,"c:d":2}"#, r#"{"a:b":1"#, &format!(r#"{{"a:b":"{:2040}"}}"#, "")]
    {
        assert_rejected::<CustomClaims>(claims);
    }
    assert_rejected::<MessageKey>(json!({"gateway": "", "id": "m1"}));
    assert_rejected::<UserId>("1");
    let mut user = to_value(user()).expect("serialized");
    user["date_joined"] = json!(i64::MAX);
    assert_rejected::<User>(user);
}
