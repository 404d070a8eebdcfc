#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::exhaustive_enums)]

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod decision;
mod error;
pub mod events;
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
pub mod storage;
mod stored;
#[cfg(feature = "test-util")]
pub mod test_util;
mod text;
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
        sign_in::InvitationOutcome,
    },
    rate_limit::client::{Client, ClientAddress},
    readiness::{Check, Readiness},
    service::{
        ReferralService,
        builder::{BuildError, ReferralServiceBuilder},
        send_code::{SendCode, SentCode},
        sessions::{CurrentUser, Refresh, Refreshed},
        sign_in::{SignIn, SignedIn},
        users::{EditProfile, ListInvitees, ListUsers, Page, PageLink},
    },
    session::{
        Session, SessionId,
        jwt::{TokenKind, TokenPair, VerifiedToken},
    },
    shared_settings::SettingDifference,
    user::{
        InvitedBy, User, UserId,
        email::Email,
        listing::{FilterInput, PageSize},
        name::Name,
        phone::{PhoneNumber, Region},
        profile::ProfileChange,
        visibility::{DisplayPhone, InviteeView, ProfileView, UserView},
    },
};
