//! Rows of `referral-server export`.

use referral_core::{
    AcceptedVia, Email, ExternalId, InviteCode, Metadata, Name, Region, StaffRole, User,
    storage::{ErasedUser, RecordedInvitation, RecordedUser, UserRecord},
};

use super::{
    fields::{Fields, Parsed, Problem, Result, Source, derived_id, parse_id, required},
    timestamp,
};

/// Names of the columns, in the order of an export.
pub(crate) const COLUMNS: &[&str] = &[
    "id",
    "phone",
    "invite_code",
    "invited_by",
    "invited_by_code",
    "invited_at",
    "invited_via",
    "email",
    "first_name",
    "last_name",
    "staff_role",
    "is_active",
    "date_joined",
    "last_login",
    "last_active",
    "phone_detached_at",
    "external_id",
    "metadata",
    "deletion_at",
    "erased_at",
];

/// Columns that an erased user does not have.
const PERSONAL: [&str; 12] = [
    "phone",
    "email",
    "first_name",
    "last_name",
    "staff_role",
    "is_active",
    "last_login",
    "last_active",
    "phone_detached_at",
    "external_id",
    "metadata",
    "deletion_at",
];

pub(crate) const SOURCE: Source = Source {
    columns: COLUMNS,
    required: &[&["id", "external_id"], &["invite_code"], &["date_joined"]],
    parse,
};

fn parse(fields: &Fields, default_region: Option<Region>) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let invite_code = fields.invite_code()?;
    let date_joined = fields.date_joined()?;
    let external_id = fields.external_id("external_id")?;
    let id = match (fields.get("id"), &external_id) {
        (Some(id), _) => parse_id("id", id)?,
        (None, Some(external_id)) => derived_id(date_joined, external_id),
        (None, None) => return Err(Problem::new("id", "the row has neither `id` nor `external_id`")),
    };
    let invitation = parse_invitation(fields)?;
    let user = match fields.time("erased_at")? {
        Some(erased_at) => {
            if let Some(field) = PERSONAL.into_iter().find(|field| fields.get(field).is_some()) {
                return Err(Problem::new(field, "a row with `erased_at` must not have this value"));
            }
            RecordedUser::Erased(ErasedUser { id, invite_code, date_joined, erased_at })
        }
        None => RecordedUser::Present(Box::new(User {
            id,
            phone: required("phone", fields.phone(default_region, &mut warnings)?)?,
            invite_code,
            invited_by: None,
            invited_count: 0,
            email: fields.email()?,
            first_name: fields.name("first_name")?,
            last_name: fields.name("last_name")?,
            staff_role: parse_staff_role(fields)?,
            is_active: fields.flag("is_active")?.unwrap_or(true),
            date_joined,
            last_login: fields.time("last_login")?,
            last_active: fields.time("last_active")?,
            phone_detached_at: fields.time("phone_detached_at")?,
            external_id,
            metadata: fields.parse("metadata", str::parse::<Metadata>)?.unwrap_or_default(),
            deletion_at: fields.time("deletion_at")?,
        })),
    };
    Ok(Parsed { record: UserRecord { user, invitation }, warnings })
}

fn parse_staff_role(fields: &Fields) -> Result<Option<StaffRole>> {
    let role = fields.get("staff_role").map(str::parse::<StaffRole>).transpose();
    role.map_err(|_| Problem::new("staff_role", "the role must be `support` or `admin`"))
}

fn parse_invitation(fields: &Fields) -> Result<Option<RecordedInvitation>> {
    let Some(code) = fields.parse("invited_by_code", InviteCode::parse)? else {
        return match ["invited_by", "invited_at", "invited_via"]
            .into_iter()
            .find(|name| fields.get(name).is_some())
        {
            Some(field) => Err(Problem::new(field, "the row has no `invited_by_code`")),
            None => Ok(None),
        };
    };
    let inviter = fields.get("invited_by").map(|id| parse_id("invited_by", id)).transpose()?;
    let accepted_at = fields.time("invited_at")?;
    let via = fields.get("invited_via").map_or(Ok(AcceptedVia::Import), |name| {
        let known = AcceptedVia::ALL.into_iter().find(|via| via.as_str() == name);
        known.ok_or_else(|| {
            let names = AcceptedVia::ALL.map(AcceptedVia::as_str).join("`, `");
            Problem::new("invited_via", format_args!("the value must be one of `{names}`"))
        })
    })?;
    let accepted_at = accepted_at.map_or_else(|| fields.date_joined(), Ok)?;
    Ok(Some(RecordedInvitation { inviter, code, accepted_at, via }))
}

/// Returns the fields of a record.
pub(crate) fn fields(record: &UserRecord) -> Fields {
    let mut fields = Fields::new(COLUMNS);
    let UserRecord { user, invitation } = record;
    let mut set = |column: &str, value: Option<String>| {
        if let Some(index) = COLUMNS.iter().position(|name| *name == column) {
            fields.values[index] = value;
        }
    };
    set("id", Some(user.id().to_string()));
    set("invite_code", Some(user.invite_code().to_string()));
    if let Some(invitation) = invitation {
        set("invited_by", invitation.inviter.map(|inviter| inviter.to_string()));
        set("invited_by_code", Some(invitation.code.to_string()));
        set("invited_at", Some(timestamp::format(invitation.accepted_at)));
        set("invited_via", Some(invitation.via.as_str().to_owned()));
    }
    match user {
        RecordedUser::Present(user) => {
            set("phone", Some(user.phone.as_str().to_owned()));
            set("email", user.email.as_ref().map(|email: &Email| email.as_str().to_owned()));
            set("first_name", user.first_name.as_ref().map(Name::to_string));
            set("last_name", user.last_name.as_ref().map(Name::to_string));
            set("staff_role", user.staff_role.map(|role| role.to_string()));
            set("is_active", Some(user.is_active.to_string()));
            set("date_joined", Some(timestamp::format(user.date_joined)));
            set("last_login", user.last_login.map(timestamp::format));
            set("last_active", user.last_active.map(timestamp::format));
            set("phone_detached_at", user.phone_detached_at.map(timestamp::format));
            set("external_id", user.external_id.as_ref().map(ExternalId::to_string));
            set("deletion_at", user.deletion_at.map(timestamp::format));
            set("metadata", (!user.metadata.is_empty()).then(|| user.metadata.to_string()));
        }
        RecordedUser::Erased(user) => {
            set("date_joined", Some(timestamp::format(user.date_joined)));
            set("erased_at", Some(timestamp::format(user.erased_at)));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new(COLUMNS);
        let usual = [
            ("id", "0187efe3-b023-71c8-a49e-ceece66ce5a7"),
            ("phone", "+79608543017"),
            ("invite_code", "O0O0O0"),
            ("date_joined", "2023-05-06T07:08:09.123456Z"),
        ];
        for (column, value) in usual.iter().chain(changes) {
            let index = COLUMNS.iter().position(|name| name == column).expect("a column");
            fields.values[index] = Some((*value).to_owned()).filter(|value| !value.is_empty());
        }
        fields
    }

    fn parsed(changes: &[(&str, &str)]) -> Result<Parsed> {
        parse(&with(changes), None)
    }

    #[test]
    fn complete_rows_round_trip() {
        let complete = [
            ("invited_by", "0187efe3-b023-71c8-a49e-ceece66ce5a8"),
            ("invited_by_code", "GXVJ9Z"),
            ("invited_at", "2023-05-07T07:08:09.123456Z"),
            ("invited_via", "sign_in"),
            ("email", "anna@xn--e1afmkfd.xn--p1ai"),
            ("first_name", "Анна \"Ann\", 1"),
            ("last_name", "O'Neil"),
            ("staff_role", "admin"),
            ("is_active", "false"),
            ("last_login", "2023-05-08T07:08:09.000001Z"),
            ("last_active", "2023-05-09T07:08:09.000001Z"),
            ("phone_detached_at", "2024-05-09T07:08:09.000001Z"),
            ("external_id", "a|1"),
            ("metadata", r#"{"plan":"gold","text":"\n\\u0000"}"#),
            ("deletion_at", "2023-06-07T07:08:09.000002Z"),
        ];
        let all = with(&complete);
        assert_eq!(fields(&parse(&all, None).expect("valid").record), all);
        let least = with(&[("is_active", "true")]);
        assert_eq!(fields(&parse(&least, None).expect("valid").record), least);
        let erased = with(&[("phone", ""), ("erased_at", "2024-05-06T07:08:09.123456Z")]);
        assert_eq!(fields(&parse(&erased, None).expect("valid").record), erased);
    }

    #[test]
    fn absent_values_have_defaults() {
        let record = parsed(&[("id", ""), ("external_id", "42"), ("invited_by_code", "gxvj-9z")]);
        let record = record.expect("valid").record;
        let invitation = record.invitation.as_ref().expect("an invitation");
        assert_eq!((invitation.code.as_str(), invitation.via), ("GXVJ9Z", AcceptedVia::Import));
        let user = record.user.present().expect("a user");
        assert_eq!(invitation.accepted_at, user.date_joined);
        assert!(user.is_active && !user.is_staff() && user.id.0.get_version_num() == 7);
    }

    #[test]
    fn invalid_rows_are_rejected_with_their_field() {
        for (changes, field) in [
            (&[("id", "")] as &[_], "id"),
            (&[("id", "1")], "id"),
            (&[("id", "00000000-0000-0000-0000-000000000000")], "id"),
            (&[("phone", "")], "phone"),
            (&[("phone", "12")], "phone"),
            (&[("invite_code", "")], "invite_code"),
            (&[("invite_code", "_____")], "invite_code"),
            (&[("date_joined", "")], "date_joined"),
            (&[("date_joined", "yesterday")], "date_joined"),
            (&[("last_login", "never")], "last_login"),
            (&[("last_active", "never")], "last_active"),
            (&[("phone_detached_at", "true")], "phone_detached_at"),
            (&[("deletion_at", "soon")], "deletion_at"),
            (&[("email", "a@b")], "email"),
            (&[("first_name", "\u{202e}")], "first_name"),
            (&[("staff_role", "boss")], "staff_role"),
            (&[("is_active", "2")], "is_active"),
            (&[("metadata", "[]")], "metadata"),
            (&[("invited_by_code", "1")], "invited_by_code"),
            (&[("invited_by", "0187efe3-b023-71c8-a49e-ceece66ce5a8")], "invited_by"),
            (&[("invited_by_code", "GXVJ9Z"), ("invited_by", "7")], "invited_by"),
            (&[("invited_by_code", "GXVJ9Z"), ("invited_via", "mail")], "invited_via"),
            (&[("erased_at", "2024-05-06T07:08:09Z")], "phone"),
            (&[("phone", ""), ("erased_at", "2024-05-06T07:08:09Z"), ("metadata", "{}")], "metadata"),
            (
                &[
                    ("phone", ""),
                    ("erased_at", "2024-05-06T07:08:09Z"),
                    ("deletion_at", "2024-05-06T07:08:09Z"),
                ],
                "deletion_at",
            ),
        ] {
            let problem = parsed(changes).expect_err("invalid");
            assert_eq!(problem.field, field, "{changes:?}: {}", problem.reason);
            assert!(!problem.reason.is_empty() && !problem.reason.ends_with('.'), "{}", problem.reason);
        }
    }
}
