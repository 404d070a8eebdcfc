#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! | You want | Read |
//! |---|---|
//! | All operations | [`ReferralService`] |
//! | Guides: hooks and transactions, tokens, upgrading | [`guide`] |
//! | Users without an access token, for your own administration | [`ReferralService::find_users`], [`ReferralService::create_user`], [`ReferralService::change_user`], [`ReferralService::delete_user`] |
//! | Everything that is stored about a user, for the user | [`ReferralService::personal_data`], [`Administration::personal_data`] |
//! | Your ids and data of users | [`ExternalId`], [`Metadata`], [`ReferralService::find_user_by_external_id`] |
//! | A storage of your own | [`storage`], and the suite [`mod@conformance`] that it must pass |
//! | All users as records, and their import | [`storage::UserStorage::export_users`], [`storage::UserStorage::import_users`] |
//! | Rows of your own in the same transaction | `TransactionHook` in `referral-sqlx` |
//! | Users in a transaction of your own | `add_user_in` of the storages in `referral-sqlx` |
//! | Rewards, messages and statistics after a sign-in | [`events::Hook`] |
//! | Data of your own in access tokens | [`ReferralServiceBuilder::claims`] |
//! | Captchas, and other conditions for codes, sign-ups and invitations | [`gate`] |
//! | Requests that survive a disconnected client | [`spawner::Spawner`] |
//! | A sender of messages | [`sms::SmsSender`], and the gateways in [`sms`] |
//! | Other limits | [`policy::Policy`] |
//! | Keys, and their rotation | [`keys`] |
//! | The HTTP status of an error | [`ErrorKind::http_status`] and [`Error::retry_after`] |
//! | Texts of errors for users, in English, Russian and Kazakh | [`texts`] |
//! | Tests of your service | [`test_util`] |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]

pub mod audit;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod decision;
mod error;
pub mod events;
pub mod gate;
#[cfg(doc)]
pub mod guide;
#[cfg(any(feature = "gate-http", feature = "sms-http"))]
mod http_client;
mod invite;
pub mod keys;
mod otp;
pub mod policy;
pub mod random;
mod rate_limit;
mod readiness;
mod service;
mod session;
mod shared_settings;
pub mod sms;
pub mod spawner;
#[cfg(any(feature = "gate-http", feature = "sms-http"))]
mod standard_webhooks;
pub mod storage;
mod stored;
#[cfg(feature = "test-util")]
pub mod test_util;
mod text;
pub mod texts;
mod user;

pub use crate::{
    error::{
        Error,
        catalog::{ErrorCode, ErrorKind},
        input::InvalidInput,
        refusal::Refusal,
    },
    invite::{
        code::InviteCode,
        invitation::{AcceptedVia, Invitation},
    },
    otp::{
        challenge::ChallengeId,
        code::{CodeInput, OneTimeCode},
        code_request::{
            CodeRequest, CodeRequestKind, CodeRequestOutcome, CodeRequestView, PhoneHash, ReachedLimit,
        },
        purpose::CodePurpose,
        sign_in::InvitationOutcome,
    },
    rate_limit::client::{Client, ClientAddress},
    readiness::{Check, Readiness},
    service::{
        ReferralService,
        account::{AccountDeletion, DeleteAccount, SendDeletionCode},
        administration::{Administration, UserDetails},
        builder::{BuildError, ReferralServiceBuilder},
        host::{CreateUser, CreatedUser},
        personal_data::{PersonalData, PersonalDataPage},
        phone_change::{ChangePhone, SendPhoneChangeCode},
        send_code::{SendCode, SentCode},
        sessions::{CurrentUser, Refresh, Refreshed},
        sign_in::{SignIn, SignedIn},
        statistics::ServiceStatus,
        users::{EditProfile, ListInvitees, ListUsers, Page, PageLink},
    },
    session::{
        Session, SessionId,
        jwt::{TokenKind, TokenPair, VerifiedToken},
    },
    shared_settings::SettingDifference,
    user::{
        InvitedBy, User, UserId,
        change::UserChange,
        daily_counts::DailyCounts,
        email::Email,
        external_id::ExternalId,
        listing::{FilterInput, PageSize},
        metadata::Metadata,
        name::Name,
        phone::{PhoneNumber, Region},
        profile::ProfileChange,
        staff_role::StaffRole,
        visibility::{DisplayPhone, InviteeView, ProfileView, UserView},
    },
};
