#![doc = include_str!("../README.md")]

mod challenge;
mod client;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod counters;
mod cursor;
mod delivery;
mod email;
mod error;
mod gram;
pub mod hook;
mod invitation;
mod invite_code;
mod keyring;
pub mod keys;
mod limits;
mod locale;
mod name;
mod phone;
mod policy;
mod profile;
pub mod random;
mod readiness;
mod referral;
mod service;
mod session;
mod shared_settings;
mod sign_in;
pub mod sms;
mod sms_code;
pub mod storage;
mod test_number;
mod text;
mod token;
mod user;
mod users;
mod visibility;

pub use crate::{
    challenge::{Challenge, ChallengeId},
    client::{Client, ClientAddress},
    delivery::{DeliveryReport, DeliveryStatus, MessageRoute, ReportEvidence},
    email::Email,
    error::{Error, ErrorKind, Invalid, Refusal},
    hook::{Event, Hook, SessionEnd},
    invitation::{Invitation, Inviter, Lineage, Via},
    invite_code::InviteCode,
    keyring::{KeyMismatch, KeyPurpose},
    keys::{Peppers, SigningKeys},
    limits::{Limit, LimitName, Limits},
    locale::Locale,
    name::Name,
    phone::{PhoneNumber, Region},
    policy::{Budget, Lengthening, Policy, Regions, Visibility},
    profile::ProfileChange,
    readiness::{Check, Readiness},
    referral::{
        Bearer, BuildError, Builder, INVITED_SHOWN, InviteeList, ListUsers, PageLink, Referral, Refresh,
        Refreshed, SESSIONS_SHOWN, SendCode, SentCode, SignIn, SignedIn, UserList,
    },
    session::{Session, SessionId},
    shared_settings::{SettingDifference, SharedSetting},
    sign_in::InvitationOutcome,
    sms_code::{CODE_LENGTHS, CodeInput, SmsCode},
    test_number::TestNumber,
    token::{TokenKind, TokenPair, VerifiedToken},
    user::{InvitedBy, Invitee, User, UserId, UserWithInvited},
    users::{COUNT_LIMIT, FilterInput, MAX_OFFSET, PageSize, Position, check_filter, check_search},
    visibility::{InviteeView, ProfileView, ShownPhone, UserView},
};
