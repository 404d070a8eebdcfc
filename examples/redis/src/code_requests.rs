//! Records of requests to send and to redeem codes.

use std::{cmp::Reverse, collections::HashSet};

use referral_core::{CodeRequest, CodeRequestView, PhoneHash, storage::Result};

use crate::{
    documents::{Document as _, Message, list},
    transaction::{ALL, Transaction},
};

impl Transaction {
    /// Adds records, and deletes older records of their phones.
    pub(crate) async fn record_code_requests(&mut self, requests: &[CodeRequest]) -> Result<()> {
        let phones: HashSet<_> = requests.iter().map(|request| request.phone).collect();
        for phone in phones {
            let mut ids = self.newest(&list::code_requests(phone), None, ALL).await?;
            let stored: HashSet<_> = ids.iter().cloned().collect();
            let of_phone = requests.iter().filter(|request| request.phone == phone);
            let new: Vec<_> = of_phone.filter(|request| !stored.contains(&request.id())).collect();
            ids.extend(new.iter().map(|request| request.id()));
            ids.sort_unstable_by(|one, other| other.cmp(one));
            let older = ids.split_off(ids.len().min(CodeRequest::MAX_PER_PHONE as usize));
            for request in new.into_iter().filter(|request| !older.contains(&request.id())) {
                self.put(request)?;
            }
            for older in self.get_all::<CodeRequest>(&older).await? {
                self.delete(&older);
            }
        }
        Ok(())
    }

    /// Reads the newest records of phones, with the status of their messages.
    pub(crate) async fn code_requests(
        &mut self,
        phones: &[PhoneHash],
        limit: u32,
    ) -> Result<Vec<CodeRequestView>> {
        let mut requests = Vec::new();
        for phone in phones {
            let ids = self.newest(&list::code_requests(*phone), None, limit as usize).await?;
            requests.extend(self.get_all::<CodeRequest>(&ids).await?);
        }
        requests.sort_unstable_by_key(|request| Reverse(request.id));
        requests.truncate(limit as usize);
        let mut views = Vec::new();
        for request in requests {
            let message = match request.message_key() {
                Some(key) => self.get::<Message>(Message::id_of(&key)).await?,
                None => None,
            };
            views.push(CodeRequestView {
                message_status: message.map(|message| message.state.status),
                request,
            });
        }
        Ok(views)
    }

    /// Deletes all records of a phone.
    pub(crate) async fn delete_code_requests(&mut self, phone: PhoneHash) -> Result<()> {
        let ids = self.newest(&list::code_requests(phone), None, ALL).await?;
        for request in self.get_all::<CodeRequest>(&ids).await? {
            self.delete(&request);
        }
        Ok(())
    }
}
