//! The commands for keys: to make them, to show them, and to put new ones in the place of old ones.

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};
use humantime::format_duration;
use referral_core::{
    KeyPurpose, Peppers, SigningKeys,
    clock::{Clock as _, SystemClock},
    random::SystemRandom,
    storage::KnownKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use crate::{
    cli::Settings,
    secrets::{self, Secret},
    serve::{self, Result},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a file with one new key, where the settings say. One that is there is never written over.
    Generate {
        /// Which file [default: both]
        #[arg(long)]
        purpose: Option<Purpose>,
        /// How the new key signs
        #[arg(long, default_value = "EdDSA", ignore_case = true)]
        algorithm: Algorithm,
        /// Print it and make no file: for `REFERRAL_KEYS` or `REFERRAL_PEPPERS`
        #[arg(long, requires = "purpose")]
        print: bool,
    },
    /// Show which keys there are, what each does, and where it comes from; nothing that is secret.
    List {
        /// Which keys [default: all]
        #[arg(long)]
        purpose: Option<Purpose>,
    },
    /// Put a new key to use, of the same algorithm, and sign nobody out.
    ///
    /// On one host, all at once. On several, or where other services verify tokens, step by step:
    /// each on one host, whose file is then copied to the others, and read by all before the next.
    Rotate {
        /// Which file [default: both]
        #[arg(long)]
        purpose: Option<Purpose>,
        /// One step only
        #[arg(long)]
        step: Option<Step>,
        /// Print what the file would be and leave it: for `REFERRAL_KEYS` or `REFERRAL_PEPPERS`
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
    /// With a private key; whoever has the public one can verify
    #[value(name = "EdDSA")]
    EdDsa,
    /// With a secret; whoever can verify can sign
    #[value(name = "HS256")]
    Hs256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// A new key comes second: it is honoured, and not used
    Add,
    /// The second key comes first: it is used
    Use,
    /// The last key goes, once nothing that it made is good any more
    Drop,
}

pub(crate) async fn run(settings: &Settings, command: &KeysCommand) -> Result<()> {
    if settings.uses_data_dir() {
        secrets::check_data_dir(&settings.store.data_dir)?;
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

/// The ring of one purpose, or both.
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
        return rings.iter().try_for_each(|ring| say(&new_set(ring.purpose, algorithm)));
    }
    // Both or none.
    rings.iter().try_for_each(Secret::refuse_if_present)?;
    if settings.uses_data_dir() {
        secrets::create_data_dir(&settings.store.data_dir)?;
    }
    for ring in rings {
        ring.create(&new_set(ring.purpose, algorithm))?;
        say(&format!("{} was made", ring.place()))?;
    }
    Ok(())
}

/// A set of one new key.
fn new_set(purpose: KeyPurpose, algorithm: Algorithm) -> Zeroizing<String> {
    match (purpose, algorithm) {
        (KeyPurpose::Signing, Algorithm::EdDsa) => SigningKeys::generate_jwk_set(&SystemRandom),
        (KeyPurpose::Signing, Algorithm::Hs256) => SigningKeys::generate_secret_jwk_set(&SystemRandom),
        (KeyPurpose::Pepper, _) => Peppers::generate_jwk_set(&SystemRandom),
    }
}

/// Prints a table of the keys, the first first.
fn list(rings: &[Secret]) -> Result<()> {
    let mut rows = vec![["PURPOSE", "KEY", "ALGORITHM", "USE", "FROM"].map(str::to_owned)];
    for ring in rings {
        let uses = match ring.purpose {
            KeyPurpose::Signing => ["signs", "verifies"],
            KeyPurpose::Pepper => ["hashes", "verifies"],
        };
        for (place, key) in KeySet::read(ring)?.keys.iter().enumerate() {
            rows.push([
                ring.purpose.to_string(),
                id_of(key).to_owned(),
                if is_public(key) { "EdDSA" } else { "HS256" }.to_owned(),
                uses[place.min(1)].to_owned(),
                ring.place(),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [purpose, key, algorithm, uses] = [0, 1, 2, 3].map(width);
    let lines =
        rows.iter().map(|[a, b, c, d, e]| format!("{a:purpose$}  {b:key$}  {c:algorithm$}  {d:uses$}  {e}"));
    say(&lines.collect::<Vec<_>>().join("\n"))
}

async fn rotate(settings: &Settings, rings: &[Secret<'_>], step: Option<Step>, print: bool) -> Result<()> {
    let known = if step == Some(Step::Drop) { known_keys(settings).await? } else { Vec::new() };
    // Whatever may be refused is, before anything is written.
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
            say(&json)?;
        } else {
            ring.replace(&json)?;
        }
        report.push(format!("{}: {done}", ring.place()));
    }
    report.push(what_is_next(settings, step, print));
    let report = report.join("\n");
    // What is printed is printed alone.
    if print { Ok(writeln!(io::stderr(), "{report}")?) } else { say(&report) }
}

/// The keys that the database is in use with.
async fn known_keys(settings: &Settings) -> Result<Vec<KnownKey>> {
    let storage = serve::connect(settings).await?;
    let known = storage.known_keys().await;
    storage.close().await;
    Ok(known?)
}

fn what_is_next(settings: &Settings, step: Option<Step>, print: bool) -> String {
    let spread = if print {
        "set the variable to it on every host, and restart them one after another."
    } else {
        "have the server read it: kill -HUP and its process id. Several hosts: copy it to each, and have each \
         server read it."
    };
    let policy = settings.policy();
    let then = match step {
        None | Some(Step::Drop) => String::new(),
        Some(Step::Add) => "\nThen, on one host: keys rotate --step use. If other services verify tokens by \
                            /.well-known/jwks.json, wait five minutes before."
            .to_owned(),
        Some(Step::Use) => format!(
            "\nWhen what the old key made is over, on one host: keys rotate --step drop. That is {} from then for a \
             signing key, {} for a pepper.",
            format_duration(policy.refresh_lifetime),
            format_duration(policy.code_lifetime)
        ),
    };
    format!("Next: {spread}{then}")
}

/// A key set as it is written. What is not known here stays as it is.
#[derive(Serialize, Deserialize)]
struct KeySet {
    keys: Vec<Map<String, Value>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl KeySet {
    /// Reads a set that can be used.
    fn read(ring: &Secret) -> Result<Self> {
        let json = ring.read()?;
        ring.check(&json)?;
        Ok(serde_json::from_str(&json).map_err(|error| format!("{}: {error}", ring.place()))?)
    }

    /// Takes a step, or all at once, and says what it did.
    fn rotate(
        &mut self,
        purpose: KeyPurpose,
        step: Option<Step>,
        known: &[KnownKey],
        now: OffsetDateTime,
    ) -> Result<String, String> {
        match step {
            None => {
                let id = self.insert_new(0, purpose);
                Ok(format!(
                    "the {purpose} `{id}` is new and comes first, so it is used; the others are honoured"
                ))
            }
            Some(Step::Add) => {
                let id = self.insert_new(1, purpose);
                Ok(format!("the {purpose} `{id}` is new and comes second, so it is honoured and not used"))
            }
            Some(Step::Use) if self.keys.len() > 1 => {
                self.keys.swap(0, 1);
                let [id, former] = [0, 1].map(|place| id_of(&self.keys[place]));
                Ok(format!("the {purpose} `{id}` comes first, so it is used; `{former}` is honoured"))
            }
            Some(Step::Use) => Err(format!("there is no second {purpose}; begin with --step add")),
            Some(Step::Drop) if self.keys.len() > 1 => {
                let key = self.keys.pop().expect("there are two");
                let id = id_of(&key);
                refuse_if_needed(purpose, id, known, now)?;
                Ok(format!("the {purpose} `{id}` is gone; what it made is refused"))
            }
            Some(Step::Drop) => Err(format!("this is the only {purpose}, and without it nothing works")),
        }
    }

    /// Puts a new key, of the algorithm of the first one, into a place, and gives its id.
    fn insert_new(&mut self, place: usize, purpose: KeyPurpose) -> String {
        let algorithm = if is_public(&self.keys[0]) { Algorithm::EdDsa } else { Algorithm::Hs256 };
        let new: Self = serde_json::from_str(&new_set(purpose, algorithm)).expect("it was written here");
        let key = new.keys.into_iter().next().expect("a set of one");
        let id = id_of(&key).to_owned();
        self.keys.insert(place, key);
        id
    }
}

/// A server that lacks a key does not start, and does not read its keys again, while the key is needed.
fn refuse_if_needed(
    purpose: KeyPurpose,
    id: &str,
    known: &[KnownKey],
    now: OffsetDateTime,
) -> Result<(), String> {
    match known.iter().find(|key| key.purpose == purpose && key.id == id).map(|key| key.needed_until) {
        Some(None) => Err(format!(
            "the {purpose} `{id}` is in use: have every server read a file in which another one comes first"
        )),
        Some(Some(until)) if now < until => Err(format!(
            "what the {purpose} `{id}` made is good until {}; drop it then",
            until.format(&Rfc3339).unwrap_or_default()
        )),
        Some(Some(_)) | None => Ok(()),
    }
}

fn id_of(key: &Map<String, Value>) -> &str {
    key.get("kid").and_then(Value::as_str).unwrap_or_default()
}

fn is_public(key: &Map<String, Value>) -> bool {
    key.get("kty").is_some_and(|kind| kind == "OKP")
}

/// Prints a text, as far as somebody reads it.
fn say(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => Ok(said?),
    }
}
