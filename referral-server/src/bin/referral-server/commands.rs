//! The commands of the program, one in each module.

pub(crate) mod audit;
pub(crate) mod code_requests;
pub(crate) mod create_superuser;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod migrate;
pub(crate) mod openapi;
pub(crate) mod output;
pub(crate) mod private_file;
pub(crate) mod serve;
pub(crate) mod sms;
pub(crate) mod users;
