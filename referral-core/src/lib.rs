#![doc = include_str!("../README.md")]

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod decision;
mod error;
pub mod hook;
mod invite;
pub mod keys;
mod otp;
mod policy;
pub mod random;
mod rate_limit;
mod readiness;
mod service;
mod session;
mod shared_settings;
pub mod sms;
pub mod storage;
mod text;
mod user;

pub use crate::{
    error::{
        Error,
        catalogue::{ErrorCode, ErrorKind},
        input::InvalidInput,
        refusal::Refusal,
    },
    hook::{Event, Hook, SessionEnd},
    invite::{
        code::InviteCode,
        invitation::{AcceptedVia, Ancestry, Invitation, Inviter},
    },
    keys::{Peppers, SigningKeys, jwk::KeyPurpose, registry::KeyMismatch},
    otp::{
        challenge::{Challenge, ChallengeId},
        code::{CODE_LENGTHS, CodeInput, OneTimeCode},
        sign_in::InvitationOutcome,
        test_number::TestNumber,
    },
    policy::{Budget, CodeLengthStep, Policy, Regions, Visibility},
    rate_limit::{
        client::{Client, ClientAddress},
        limits::{Limit, LimitName, Limits},
    },
    readiness::{Check, Readiness},
    service::{
        BuildError, CurrentUser, INVITED_SHOWN, ListUsers, Page, PageLink, ReferralService,
        ReferralServiceBuilder, Refresh, Refreshed, SESSIONS_SHOWN, SendCode, SentCode, SignIn, SignedIn,
    },
    session::{
        Session, SessionId,
        jwt::{TokenKind, TokenPair, VerifiedToken},
    },
    shared_settings::{SettingDifference, SharedSetting},
    sms::{
        delivery::{DeliveryReport, DeliveryStatus, MessageRoute, ReportEvidence},
        locale::Locale,
    },
    user::{
        InvitedBy, Invitee, User, UserId, UserWithInvited,
        email::Email,
        listing::{COUNT_LIMIT, FilterInput, MAX_OFFSET, PageSize, PageStart},
        name::Name,
        phone::{PhoneNumber, Region},
        profile::ProfileChange,
        search::{check_filter, check_search},
        visibility::{DisplayPhone, InviteeView, ProfileView, UserView},
    },
};
