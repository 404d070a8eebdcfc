//! One-time codes: their challenges, their redemption and the fixed codes of test numbers.

pub(crate) mod attempt;
pub(crate) mod challenge;
pub(crate) mod code;
pub(crate) mod code_request;
pub(crate) mod purpose;
pub(crate) mod redemption;
pub(crate) mod sign_in;
pub(crate) mod test_number;
