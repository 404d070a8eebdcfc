//! Cursors: authenticated positions in a list, which a client returns unchanged.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    error::refusal::Refusal,
    keys::Peppers,
    user::{UserId, listing::PageStart},
};

/// Size in bytes of the tag of a cursor. It is large enough that a tag cannot be guessed, and small because a
/// cursor is part of a URL.
const TAG_BYTES: usize = 8;

/// Encoder and decoder of cursors.
pub(crate) struct Cursors(pub(crate) Arc<Peppers>);

impl Cursors {
    /// Encodes a page start as a cursor. Returns `None` for an offset, which needs no cursor.
    pub(crate) fn seal(&self, start: PageStart) -> Option<String> {
        let (direction, UserId(id)) = match start {
            PageStart::Offset(_) => return None,
            PageStart::OlderThan(id) => (b'o', id),
            PageStart::NewerThan(id) => (b'n', id),
        };
        let mut bytes = vec![direction];
        bytes.extend(id.as_bytes());
        let tag = Self::tag(&bytes, &self.0, self.0.current_id())?;
        bytes.extend(tag);
        Some(BASE64.encode(bytes))
    }

    /// Decodes a cursor that [`seal`](Self::seal) encoded.
    pub(crate) fn open(&self, cursor: &str) -> Result<PageStart, Refusal> {
        // One byte of direction, 16 bytes of id and 8 bytes of tag: 25 bytes, 34 characters.
        let bytes =
            Some(cursor).filter(|cursor| cursor.len() == 34).and_then(|cursor| BASE64.decode(cursor).ok());
        let bytes = bytes.ok_or(Refusal::InvalidCursor)?;
        let (start, tag) = bytes.split_at(bytes.len() - TAG_BYTES);
        let is_genuine = self
            .0
            .ids()
            .any(|id| Self::tag(start, &self.0, id).is_some_and(|expected| expected.ct_eq(tag).into()));
        let id = Uuid::from_slice(&start[1..]).map(UserId);
        match (is_genuine, start[0], id) {
            (true, b'o', Ok(id)) => Ok(PageStart::OlderThan(id)),
            (true, b'n', Ok(id)) => Ok(PageStart::NewerThan(id)),
            _ => Err(Refusal::InvalidCursor),
        }
    }

    fn tag(start: &[u8], peppers: &Peppers, pepper_id: &str) -> Option<[u8; TAG_BYTES]> {
        let hash = peppers.hash(pepper_id, &[b"cursor", start])?;
        hash.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{otp::challenge::tests::peppers, user::tests::user};

    #[test]
    fn cursors_are_decoded_and_forged_ones_are_rejected() {
        let cursors = Cursors(Arc::new(peppers()));
        for start in [PageStart::OlderThan(user(1).id), PageStart::NewerThan(user(2).id)] {
            let cursor = cursors.seal(start).expect("not an offset");
            assert_eq!(cursors.open(&cursor), Ok(start));
            for (index, _) in cursor.char_indices() {
                let mut forged = cursor.clone().into_bytes();
                forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
                let forged = String::from_utf8(forged).expect("ASCII");
                assert_eq!(cursors.open(&forged), Err(Refusal::InvalidCursor));
            }
        }
        for garbage in ["", "x", "ж", &"A".repeat(34), &"A".repeat(1_000_000)] {
            assert_eq!(cursors.open(garbage), Err(Refusal::InvalidCursor));
        }
    }
}
