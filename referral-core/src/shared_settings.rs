//! Settings that should be the same in all processes on one storage.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// Setting of a process, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SharedSetting {
    /// Name of the setting.
    pub name: String,
    /// Value of the setting.
    pub value: String,
}

impl SharedSetting {
    /// Creates a setting.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Setting whose value differs from that of the process that started last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingDifference {
    /// Name of the setting.
    pub name: String,
    /// Value in this process.
    pub here: String,
    /// Value in the process that started last.
    pub elsewhere: String,
}

impl SettingDifference {
    pub(crate) fn log(&self) {
        tracing::warn!(
            setting = %self.name,
            here = %self.here,
            elsewhere = %self.elsewhere,
            "this process and the one that started last on this database have different settings"
        );
    }
}

/// Returns the differences between the settings of this process and the recorded settings.
pub(crate) fn differences(here: &[SharedSetting], recorded: &[SharedSetting]) -> Vec<SettingDifference> {
    let recorded_of = |name: &str| recorded.iter().find(|setting| setting.name == name);
    let pairs = here.iter().filter_map(|here| Some((here, recorded_of(&here.name)?)));
    let pairs = pairs.filter(|(here, recorded)| here.value != recorded.value);
    pairs
        .map(|(here, recorded)| SettingDifference {
            name: here.name.clone(),
            here: here.value.clone(),
            elsewhere: recorded.value.clone(),
        })
        .collect()
}

/// Returns the settings of a process.
pub(crate) fn of(issuer: &str, audience: &str, policy: &Policy) -> Vec<SharedSetting> {
    macro_rules! settings {
        ($($field:ident),* ; except $($left_out:ident),*) => {{
            // This pattern names all fields, so that a new field is not overlooked.
            let Policy { $($field),*, $($left_out: _),* } = policy;
            vec![$(SharedSetting::new(concat!("policy.", stringify!($field)), format!("{:?}", $field))),*]
        }};
    }
    let mut settings = settings!(
        code_length, code_length_steps, lockout_threshold, failed_attempt_window, code_lifetime, attempts_per_code,
        failed_attempts_per_address, attempts_without_challenge, attack_threshold, attack_code_length, resend_interval,
        codes_per_phone, codes_per_phone_and_address, codes_per_address, codes_per_number_range, unknown_invite_codes,
        email_changes, regions, messages_per_day, require_challenge, access_lifetime, refresh_lifetime,
        session_lifetime, max_sessions, phones_recycled_after, deletion_grace, refresh_grace, max_clock_offset,
        default_region, additional_prefixes, visibility;
        // Test numbers are excluded because their codes are secret.
        except test_numbers
    );
    settings.push(SharedSetting::new("issuer", issuer));
    settings.push(SharedSetting::new("audience", audience));
    settings
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{otp::test_number::TestNumber, user::phone::PhoneNumber};

    #[test]
    fn difference_has_the_setting_and_both_values() {
        let here = of("a", "b", &Policy::standard());
        assert_eq!(differences(&here, &here), []);
        assert_eq!(differences(&here, &[]), [], "nothing was recorded");
        let elsewhere = of("a", "c", &Policy { code_length: 6, ..Policy::standard() });
        let differences = differences(&here, &elsewhere);
        let names: Vec<_> = differences
            .iter()
            .map(|difference| (&*difference.name, &*difference.here, &*difference.elsewhere))
            .collect();
        assert_eq!(names, [("policy.code_length", "4", "6"), ("audience", "b", "c")]);
    }

    #[test]
    fn codes_of_test_numbers_are_not_recorded() {
        let phone = PhoneNumber::parse("+79608543017", None).expect("a mobile number");
        let number =
            TestNumber::new(phone, "47110815", datetime!(2099-12-31 0:00 UTC)).expect("a test number");
        let policy = Policy { test_numbers: vec![number], ..Policy::standard() };
        let settings = of("a", "b", &policy);
        assert!(settings.iter().all(|setting| !setting.value.contains("4711")));
    }
}
