//! Style sheet and script of the console. They are part of the program.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use poem::{Response, http::header};
use sha2::{Digest as _, Sha256};

use super::form::Form;

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");

/// Name of the parameter with the hash of the content.
const VERSION: &str = "v";

/// Hashes of the files, by which browsers can cache them: another content has another URL.
pub(super) struct Assets {
    pub(super) style_version: String,
    pub(super) script_version: String,
}

impl Assets {
    pub(super) fn new() -> Self {
        let hash = |content: &str| BASE64.encode(&Sha256::digest(content)[..12]);
        Self { style_version: hash(STYLE), script_version: hash(SCRIPT) }
    }

    pub(super) fn style(&self, query: &Form) -> Response {
        respond(STYLE, "text/css; charset=utf-8", &self.style_version, query)
    }

    pub(super) fn script(&self, query: &Form) -> Response {
        respond(SCRIPT, "text/javascript; charset=utf-8", &self.script_version, query)
    }
}

fn respond(content: &'static str, content_type: &str, version: &str, query: &Form) -> Response {
    // During an update, another process may serve an old page. Its version must not be cached under this URL.
    let is_current = query.get(VERSION) == Some(version);
    let cache = if is_current { "public, max-age=31536000, immutable" } else { "no-cache" };
    Response::builder().content_type(content_type).header(header::CACHE_CONTROL, cache).body(content)
}
