//! Commands `keys …`, which create, list and rotate keys.

use std::io::{self, Write};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
};
use clap::{Subcommand, ValueEnum};
use humantime::format_duration;
use referral_core::{
    clock::{Clock as _, SystemClock},
    keys::{KeyPurpose, Peppers, SigningKeys},
    random::SystemRandom,
    storage::RegisteredKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use crate::{
    commands::{
        output::{Cell, Colors, Table, print_text},
        serve::{self, Result},
    },
    key_files::{self, Secret},
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a file with one new key at the path in the settings. An existing file is not changed.
    Generate {
        /// Purpose of the file [default: both]
        #[arg(long)]
        purpose: Option<Purpose>,
        /// Signature algorithm of the new key
        #[arg(long, default_value = "EdDSA", ignore_case = true)]
        algorithm: Algorithm,
        /// Print the key set and create no file: for `REFERRAL_KEYS` or `REFERRAL_PEPPERS`
        #[arg(long, requires = "purpose")]
        print: bool,
    },
    /// List the keys with their purpose, algorithm, use and source, without secrets.
    List {
        /// Purpose of the keys [default: all]
        #[arg(long)]
        purpose: Option<Purpose>,
    },
    /// Use a new key of the same algorithm without ending sessions.
    ///
    /// On one host, omit `--step`. With several hosts, or if other services verify tokens, run the steps add,
    /// use and drop sequentially. Run each step on one host, copy the file to the other hosts, and let all
    /// servers read it before the next step.
    Rotate {
        /// Purpose of the file [default: both]
        #[arg(long)]
        purpose: Option<Purpose>,
        /// Run one step only
        #[arg(long)]
        step: Option<Step>,
        /// Print the new key set and do not change the file: for `REFERRAL_KEYS` or `REFERRAL_PEPPERS`
        #[arg(long, requires = "purpose")]
        print: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Purpose {
    /// Keys that sign tokens
    Signing,
    /// Peppers that hash codes
    Pepper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// Key of the curve Ed25519. Services with the public key can verify tokens
    #[value(name = "EdDSA")]
    EdDsa,
    /// Key of the curve P-256, for services whose libraries do not support `EdDSA`
    #[value(name = "ES256")]
    Es256,
    /// RSA key of 2048 bits, for services that support no curves. Its tokens are 1.6 times as long
    #[value(name = "RS256")]
    Rs256,
    /// Shared secret. Services that can verify tokens can also sign them
    #[value(name = "HS256")]
    Hs256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Insert a new key at the second position: it is accepted and not used
    Add,
    /// Move the second key to the first position: it is used
    Use,
    /// Remove the last key, after all its tokens or codes have expired
    Drop,
}

impl Algorithm {
    /// Returns the name in the headers of tokens.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

pub(crate) async fn run(settings: &Settings, command: &KeysCommand) -> Result<()> {
    if settings.uses_data_dir() {
        key_files::check_data_dir(&settings.store.data_dir)?;
    }
    match *command {
        KeysCommand::Generate { purpose, algorithm, print } => {
            generate(settings, &rings(settings, purpose), algorithm, print)
        }
        KeysCommand::List { purpose } => list(&rings(settings, purpose)),
        KeysCommand::Rotate { purpose, step, print } => {
            rotate(settings, &rings(settings, purpose), step, print).await
        }
    }
}

/// Returns the key set of one purpose, or of both.
fn rings(settings: &Settings, purpose: Option<Purpose>) -> Vec<Secret<'_>> {
    let purposes = match purpose {
        None => &KeyPurpose::ALL[..],
        Some(Purpose::Signing) => &[KeyPurpose::Signing],
        Some(Purpose::Pepper) => &[KeyPurpose::Pepper],
    };
    purposes.iter().map(|purpose| Secret::of(settings, *purpose)).collect()
}

fn generate(settings: &Settings, rings: &[Secret], algorithm: Algorithm, print: bool) -> Result<()> {
    if print {
        return rings.iter().try_for_each(|ring| print_text(&new_set(ring.purpose, algorithm)?));
    }
    // Either both files are created or none.
    rings.iter().try_for_each(Secret::refuse_if_present)?;
    if settings.uses_data_dir() {
        key_files::create_data_dir(&settings.store.data_dir)?;
    }
    for ring in rings {
        ring.create(&new_set(ring.purpose, algorithm)?)?;
        print_text(&format!("created {}", ring.place()))?;
    }
    Ok(())
}

/// Creates a key set with one new key.
fn new_set(purpose: KeyPurpose, algorithm: Algorithm) -> Result<Zeroizing<String>> {
    if purpose == KeyPurpose::Pepper {
        return Ok(Peppers::generate(&SystemRandom).to_jwk_set());
    }
    let keys = match algorithm {
        Algorithm::EdDsa => SigningKeys::generate(&SystemRandom),
        Algorithm::Es256 => SigningKeys::generate_p256(&SystemRandom),
        Algorithm::Rs256 => {
            let pair = KeyPair::generate(KeySize::Rsa2048)?;
            let der: Pkcs8V1Der<'_> = pair.as_der()?;
            SigningKeys::from_rsa_der(&SigningKeys::generate_id(&SystemRandom), der.as_ref())?
        }
        Algorithm::Hs256 => SigningKeys::generate_symmetric(&SystemRandom),
    };
    Ok(keys.to_jwk_set())
}

/// Prints a table of the keys in the order of the files.
fn list(rings: &[Secret]) -> Result<()> {
    let mut table = Table::with_header(&["PURPOSE", "KEY", "ALGORITHM", "USE", "FROM"]);
    for ring in rings {
        let uses = match ring.purpose {
            KeyPurpose::Signing => ["signs", "verifies"],
            KeyPurpose::Pepper => ["hashes", "verifies"],
        };
        for (place, key) in KeySet::read(ring)?.keys.iter().enumerate() {
            let cells = [
                ring.purpose.to_string(),
                id_of(key).to_owned(),
                algorithm_of(key).name(),
                uses[place.min(1)].to_owned(),
                ring.place(),
            ];
            table.row(cells.map(Cell::new));
        }
    }
    print_text(&table.write(Colors::of_standard_output()))
}

async fn rotate(settings: &Settings, rings: &[Secret<'_>], step: Option<Step>, print: bool) -> Result<()> {
    let known = if step == Some(Step::Drop) { registered_keys(settings).await? } else { Vec::new() };
    // All checks are made before a file is written.
    let mut rotated = Vec::new();
    for ring in rings {
        if !print {
            ring.own_file()?;
        }
        let mut set = KeySet::read(ring)?;
        let done = set
            .rotate(ring.purpose, step, &known, SystemClock.now())
            .map_err(|reason| format!("{}: {reason}", ring.place()))?;
        let json = Zeroizing::new(serde_json::to_string_pretty(&set)?);
        ring.check(&json)?;
        rotated.push((ring, json, done));
    }
    let mut report = Vec::new();
    for (ring, json, done) in rotated {
        if print {
            print_text(&json)?;
        } else {
            ring.replace(&json)?;
        }
        report.push(format!("{}: {done}", ring.place()));
    }
    report.push(what_is_next(settings, step, print));
    let report = report.join("\n");
    // Standard output has the key sets only.
    if print { Ok(writeln!(io::stderr(), "{report}")?) } else { print_text(&report) }
}

/// Returns the keys that the database is in use with.
async fn registered_keys(settings: &Settings) -> Result<Vec<RegisteredKey>> {
    let storage = serve::connect(settings).await?;
    let known = storage.registered_keys().await;
    storage.close().await;
    Ok(known?)
}

fn what_is_next(settings: &Settings, step: Option<Step>, print: bool) -> String {
    let spread = if print {
        "set the variable to the output on every host, and restart the servers one after another."
    } else {
        "reload the keys of the server: kill -HUP and its process id. With several hosts, copy the file to each of \
         them, and reload the keys of each server."
    };
    let policy = settings.policy();
    let then = match step {
        None | Some(Step::Drop) => String::new(),
        Some(Step::Add) => {
            "\nThen, on one host: keys rotate --step use. If other services verify tokens with \
                            /.well-known/jwks.json, wait five minutes first."
                .to_owned()
        }
        Some(Step::Use) => format!(
            "\nThen, on one host: keys rotate --step drop. Before that, wait until the tokens or codes of the old \
             key have expired: {} for a signing key, {} for a pepper.",
            format_duration(policy.refresh_lifetime),
            format_duration(policy.code_lifetime)
        ),
    };
    format!("Next: {spread}{then}")
}

/// Key set in a file. Unknown members do not change.
#[derive(Serialize, Deserialize)]
struct KeySet {
    keys: Vec<Map<String, Value>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl KeySet {
    /// Reads a key set and checks it.
    fn read(ring: &Secret) -> Result<Self> {
        let json = ring.read()?;
        ring.check(&json)?;
        Ok(serde_json::from_str(&json).map_err(|error| format!("{}: {error}", ring.place()))?)
    }

    /// Runs a step, or all steps, and returns a description of the result.
    fn rotate(
        &mut self,
        purpose: KeyPurpose,
        step: Option<Step>,
        known: &[RegisteredKey],
        now: OffsetDateTime,
    ) -> Result<String, String> {
        match step {
            None => {
                let id = self.insert_new(0, purpose)?;
                Ok(format!("the {purpose} `{id}` is new and first, so it is used; the others are accepted"))
            }
            Some(Step::Add) => {
                let id = self.insert_new(1, purpose)?;
                Ok(format!("the {purpose} `{id}` is new and second, so it is accepted and not used"))
            }
            Some(Step::Use) if self.keys.len() > 1 => {
                self.keys.swap(0, 1);
                let [id, former] = [0, 1].map(|place| id_of(&self.keys[place]));
                Ok(format!("the {purpose} `{id}` is first, so it is used; `{former}` is accepted"))
            }
            Some(Step::Use) => Err(format!("there is no second {purpose}; run --step add first")),
            Some(Step::Drop) if self.keys.len() > 1 => {
                let key = self.keys.pop().expect("the set has several keys");
                let id = id_of(&key);
                refuse_if_needed(purpose, id, known, now)?;
                Ok(format!("the {purpose} `{id}` was removed; its tokens or codes are rejected"))
            }
            Some(Step::Drop) => Err(format!("the only {purpose} cannot be removed")),
        }
    }

    /// Inserts a new key at an index, with the algorithm of the first key, and returns its id.
    fn insert_new(&mut self, place: usize, purpose: KeyPurpose) -> Result<String, String> {
        let set = new_set(purpose, algorithm_of(&self.keys[0])).map_err(|error| error.to_string())?;
        let new: Self = serde_json::from_str(&set).expect("a generated key set can be parsed");
        let key = new.keys.into_iter().next().expect("a generated set has one key");
        let id = id_of(&key).to_owned();
        self.keys.insert(place, key);
        Ok(id)
    }
}

/// Rejects the removal of a key that is still needed.
///
/// A server without such a key does not start and does not reload its keys.
fn refuse_if_needed(
    purpose: KeyPurpose,
    id: &str,
    known: &[RegisteredKey],
    now: OffsetDateTime,
) -> Result<(), String> {
    match known.iter().find(|key| key.purpose == purpose && key.id == id).map(|key| key.needed_until) {
        Some(None) => Err(format!(
            "the {purpose} `{id}` is in use: let every server read a file in which another one is first"
        )),
        Some(Some(until)) if now < until => Err(format!(
            "the {purpose} `{id}` is needed until {}; drop it then",
            until.format(&Rfc3339).unwrap_or_default()
        )),
        Some(Some(_)) | None => Ok(()),
    }
}

fn id_of(key: &Map<String, Value>) -> &str {
    key.get("kid").and_then(Value::as_str).unwrap_or_default()
}

fn algorithm_of(key: &Map<String, Value>) -> Algorithm {
    match key.get("kty").and_then(Value::as_str) {
        Some("OKP") => Algorithm::EdDsa,
        Some("EC") => Algorithm::Es256,
        Some("RSA") => Algorithm::Rs256,
        _ => Algorithm::Hs256,
    }
}
