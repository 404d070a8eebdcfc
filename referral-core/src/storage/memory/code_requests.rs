//! Records of requests for codes in the memory storage.

use std::{cmp::Reverse, collections::BTreeMap};

use time::OffsetDateTime;
use uuid::Uuid;

use super::state::State;
use crate::storage::{CodeRequest, CodeRequestView, PhoneHash};

impl State {
    pub(super) fn record_code_requests(&mut self, requests: &[CodeRequest]) {
        for request in requests {
            let of_phone = self.code_requests.entry(request.phone).or_default();
            of_phone.entry(request.id).or_insert_with(|| request.clone());
        }
        for request in requests {
            let of_phone = self.code_requests.entry(request.phone).or_default();
            while of_phone.len() > CodeRequest::MAX_PER_PHONE as usize {
                of_phone.pop_first();
            }
        }
    }

    pub(super) fn newest_code_requests(&self, phone: &[PhoneHash], limit: u32) -> Vec<CodeRequestView> {
        let stored = phone.iter().filter_map(|phone| self.code_requests.get(phone));
        let mut requests: Vec<_> = stored.flat_map(BTreeMap::values).cloned().collect();
        requests.sort_unstable_by_key(|request| Reverse(request.id));
        requests.truncate(limit as usize);
        let view = |request: CodeRequest| {
            let message = request.message_key().and_then(|key| self.messages.get(&key));
            CodeRequestView { message_status: message.map(|(_, message)| message.status), request }
        };
        requests.into_iter().map(view).collect()
    }

    /// Returns the keys of at most `batch` records of requests before a time.
    pub(super) fn code_requests_before(
        &self,
        before: OffsetDateTime,
        batch: usize,
    ) -> Vec<(PhoneHash, Uuid)> {
        let requests = self.code_requests.values().flat_map(BTreeMap::values);
        let old = requests.filter(|request| request.at < before);
        old.map(|request| (request.phone, request.id)).take(batch).collect()
    }

    pub(super) fn remove_code_request(&mut self, phone: PhoneHash, id: Uuid) {
        if let Some(of_phone) = self.code_requests.get_mut(&phone) {
            of_phone.remove(&id);
            if of_phone.is_empty() {
                self.code_requests.remove(&phone);
            }
        }
    }
}
