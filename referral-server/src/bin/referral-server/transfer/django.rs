//! Rows of the table `users_user` of the former service in Django.
//!
//! The import keeps as much as possible: a name or an email address that is not valid here is dropped with a
//! warning, and the user is imported.

use referral_core::{
    AcceptedVia, InviteCode, Metadata, Region, StaffRole, User,
    storage::{RecordedInvitation, RecordedUser, UserRecord},
};

use super::fields::{Fields, Parsed, Problem, Result, Source, derived_id, required};

/// Columns of the table. The password is ignored.
const COLUMNS: &[&str] = &[
    "id",
    "password",
    "last_login",
    "is_superuser",
    "phone",
    "invite_code",
    "invited_by_code",
    "email",
    "first_name",
    "last_name",
    "is_staff",
    "is_active",
    "date_joined",
];

pub(crate) const SOURCE: Source = Source {
    columns: COLUMNS,
    required: &[
        &["id"],
        &["phone"],
        &["invite_code"],
        &["invited_by_code"],
        &["is_active"],
        &["date_joined"],
    ],
    parse,
};

fn parse(fields: &Fields, default_region: Option<Region>) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let external_id = required("id", fields.external_id("id")?)?;
    let date_joined = fields.date_joined()?;
    let Some(phone) = fields.phone(default_region, &mut warnings)? else {
        return Err(Problem::new(
            "phone",
            "the user has no phone, and so cannot sign in here; if it is a superuser, create one with \
             `referral-server create-superuser --phone <PHONE>`",
        ));
    };
    let mut kept = |value: Result<_>| value.map_err(|problem| dropped(&mut warnings, problem)).ok().flatten();
    let (first_name, last_name) = (kept(fields.name("first_name")), kept(fields.name("last_name")));
    let email = fields.email().map_err(|problem| dropped(&mut warnings, problem)).ok().flatten();
    let code = fields.parse("invited_by_code", InviteCode::parse);
    let code = code.map_err(|problem| dropped(&mut warnings, problem)).ok().flatten();
    let has = |flag| fields.flag(flag).map(|value| value.unwrap_or(false));
    let staff_role = match (has("is_superuser")?, has("is_staff")?) {
        (true, _) => Some(StaffRole::Admin),
        (false, true) => Some(StaffRole::Support),
        (false, false) => None,
    };
    let user = User {
        id: derived_id(date_joined, &external_id),
        phone,
        invite_code: fields.invite_code()?,
        invited_by: None,
        invited_count: 0,
        email,
        first_name,
        last_name,
        staff_role,
        is_active: fields.flag("is_active")?.unwrap_or(true),
        date_joined,
        last_login: fields.time("last_login")?,
        last_active: None,
        phone_detached_at: None,
        external_id: Some(external_id),
        metadata: Metadata::default(),
        deletion_at: None,
    };
    // The table has no time of the invitation.
    let invitation = code.map(|code| RecordedInvitation {
        inviter: None,
        code,
        accepted_at: date_joined,
        via: AcceptedVia::Import,
    });
    let record = UserRecord { user: RecordedUser::Present(Box::new(user)), invitation };
    Ok(Parsed { record, warnings })
}

fn dropped(warnings: &mut Vec<Problem>, mut problem: Problem) {
    problem.reason += "; the user is imported without this value";
    warnings.push(problem);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(changes: &[(&str, &str)]) -> Result<Parsed> {
        let mut fields = Fields::new(COLUMNS);
        let usual = [
            ("id", "42"),
            ("password", "!"),
            ("is_superuser", "f"),
            ("phone", "+79608543017"),
            ("invite_code", "O0O0O0"),
            ("is_staff", "f"),
            ("is_active", "t"),
            ("date_joined", "2023-05-06 10:08:09.123456+03"),
        ];
        for (column, value) in usual.iter().chain(changes) {
            let index = COLUMNS.iter().position(|name| name == column).expect("a column");
            fields.values[index] = Some((*value).to_owned()).filter(|value| !value.is_empty());
        }
        parse(&fields, None)
    }

    fn user(parsed: &Parsed) -> &User {
        parsed.record.user.present().expect("a user")
    }

    #[test]
    fn rows_keep_their_data() {
        let parsed =
            row(&[("invited_by_code", "o0gXvj"), ("email", "anna@example.com"), ("first_name", "Анна")]);
        let parsed = parsed.expect("valid");
        let anna = user(&parsed);
        assert_eq!(anna.external_id.as_ref().map(ToString::to_string).as_deref(), Some("42"));
        assert_eq!((anna.invite_code.as_str(), anna.staff_role, anna.is_active), ("O0O0O0", None, true));
        assert_eq!(anna.id.to_string(), "0187efe3-b023-71c8-a49e-ceece66ce5a7");
        assert!(anna.last_login.is_none() && anna.email.is_some() && anna.last_name.is_none());
        let invitation = parsed.record.invitation.as_ref().expect("an invitation");
        assert_eq!((invitation.code.as_str(), invitation.accepted_at), ("O0GXVJ", anna.date_joined));
        assert_eq!(parsed.warnings, []);
    }

    #[test]
    fn superusers_with_a_phone_become_staff_and_those_without_are_rejected() {
        for (flag, role) in [("is_superuser", StaffRole::Admin), ("is_staff", StaffRole::Support)] {
            assert_eq!(user(&row(&[(flag, "t")]).expect("valid")).staff_role, Some(role));
        }
        let problem = row(&[("is_superuser", "t"), ("phone", "")]).expect_err("no phone");
        assert_eq!(problem.field, "phone");
        assert!(problem.reason.contains("create-superuser --phone"), "{}", problem.reason);
    }

    #[test]
    fn invalid_names_addresses_and_codes_are_dropped_with_a_warning() {
        for (field, value) in [
            ("first_name", "\u{200b}"),
            ("last_name", "a\u{7}"),
            ("email", "root@localhost"),
            ("invited_by_code", "x"),
        ] {
            let parsed = row(&[(field, value)]).expect("imported");
            let [warning] = &parsed.warnings[..] else { panic!("one warning: {:?}", parsed.warnings) };
            assert_eq!(warning.field, field);
            assert!(warning.reason.ends_with("without this value"), "{}", warning.reason);
            let anna = user(&parsed);
            assert!(anna.first_name.is_none() && anna.last_name.is_none() && anna.email.is_none());
            assert!(parsed.record.invitation.is_none());
        }
    }

    #[test]
    fn rows_without_necessary_values_are_rejected() {
        for (field, value) in
            [("id", ""), ("invite_code", ""), ("date_joined", "infinity"), ("is_active", "?")]
        {
            assert_eq!(row(&[(field, value)]).expect_err("rejected").field, field);
        }
    }
}
