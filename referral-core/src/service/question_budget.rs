//! Limit on the questions to the gate about one phone.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use quick_cache::unsync::Cache;
use time::OffsetDateTime;

use crate::{policy::MAX_QUESTIONS_PER_HOUR, user::phone::PhoneNumber};

const HOUR: time::Duration = time::Duration::HOUR;

/// Number of phones that are remembered. To evict one of them, a client must own as many others.
const MAX_PHONES: usize = 10_000;

/// Numbers of questions by phone, in this process.
pub(super) struct QuestionBudget(Mutex<Cache<PhoneNumber, Spent>>);

#[derive(Clone, Copy)]
struct Spent {
    since: OffsetDateTime,
    questions: u32,
}

impl Default for QuestionBudget {
    fn default() -> Self {
        Self(Mutex::new(Cache::new(MAX_PHONES)))
    }
}

impl QuestionBudget {
    /// Counts a question about a phone. Returns the time to wait if there were too many.
    pub(super) fn spend(&self, phone: &PhoneNumber, now: OffsetDateTime) -> Option<Duration> {
        let mut phones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = phones.get(phone).copied().filter(|spent| now < spent.since + HOUR);
        let mut spent = known.unwrap_or(Spent { since: now, questions: 0 });
        if spent.questions >= MAX_QUESTIONS_PER_HOUR {
            return Some((spent.since + HOUR - now).try_into().unwrap_or_default());
        }
        spent.questions += 1;
        phones.insert(phone.clone(), spent);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::tests::user;

    #[test]
    fn a_phone_has_ten_questions_an_hour() {
        let (budget, start) = (QuestionBudget::default(), OffsetDateTime::UNIX_EPOCH);
        let [anna, boris] = [user(1).phone, user(2).phone];
        for _ in 0..10 {
            assert_eq!(budget.spend(&anna, start), None);
        }
        let minute = time::Duration::MINUTE;
        assert_eq!(budget.spend(&anna, start + minute), Some(Duration::from_mins(59)));
        assert_eq!(budget.spend(&boris, start + minute), None);
        assert_eq!(budget.spend(&anna, start + HOUR), None);
    }

    #[test]
    fn the_number_of_remembered_phones_is_limited() {
        let (budget, now) = (QuestionBudget::default(), OffsetDateTime::UNIX_EPOCH);
        for number in 0..2 * u32::try_from(MAX_PHONES).expect("small") {
            let phone = PhoneNumber::from_stored(format!("+7960{number:07}")).expect("valid");
            assert_eq!(budget.spend(&phone, now), None);
        }
        assert!(budget.0.lock().expect("not poisoned").len() <= MAX_PHONES);
    }
}
