//! Tests of the commands for keys, and of their effect on a running program.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    program::{Program, directory, mode, run, run_with},
    service::{ANNA, BORIS, Client},
};

const KEYS: &str = "referral-data/keys.json";
const PEPPERS: &str = "referral-data/peppers.json";

/// Runs a command that must succeed, and returns its output.
#[track_caller]
pub(crate) fn commanded(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run_with(directory, arguments, environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Returns the ids of the published keys, in their order.
pub(crate) async fn public_ids(client: &Client) -> Vec<Value> {
    let response = client.send(client.http.get(client.url("/.well-known/jwks.json"))).await;
    assert_eq!(response.header("cache-control"), Some("public, max-age=300"));
    ids(&response.text)
}

/// Returns the ids of the keys of a set, in their order.
fn ids(set: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(set).expect("JSON");
    set["keys"].as_array().expect("keys").iter().map(|key| key["kid"].clone()).collect()
}

/// Returns the id of the key in the header of a token.
pub(crate) fn key_id(token: &str) -> Value {
    json!(jsonwebtoken::decode_header(token).expect("a token").kid)
}

fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).expect("a file")
}

#[tokio::test]
async fn a_new_key_is_used_after_the_signal_and_ends_no_session() {
    let directory = directory();
    let mut program = Program::start(directory.path(), &[]);
    let client = program.client.clone();
    let anna = client.enter(ANNA, None).await;
    let sent = client.post("/auth/send_code/", &json!({ "phone": BORIS })).await.ok();
    let [old] = &public_ids(&client).await[..] else { panic!("one key") };

    let printed = commanded(directory.path(), &["keys", "rotate"], &[]);
    let [new, second] = &ids(&read(directory.path(), KEYS))[..] else { panic!("two keys") };
    assert_eq!(second, old);
    assert!(printed.contains(new.as_str().expect("an id")) && printed.contains("kill -HUP"), "{printed}");
    assert_eq!(
        public_ids(&client).await,
        std::slice::from_ref(old),
        "the new key must not be used before the signal"
    );

    let logged = program.reload();
    assert!(
        logged.contains("reloaded the keys") && logged.contains(new.as_str().expect("an id")),
        "{logged}"
    );
    assert_eq!(public_ids(&client).await, [new.clone(), old.clone()]);
    client.get("/users/current_user/", &anna.access).await.ok();
    for token in [&anna.access, &anna.refresh] {
        client.post("/auth/jwt/verify/", &json!({ "token": token })).await.ok();
    }
    let refreshed = client.post("/auth/jwt/refresh/", &json!({ "refresh": anna.refresh })).await.ok();
    let body = json!({ "phone": BORIS, "code": sent["code"], "challenge_id": sent["challenge_id"] });
    let boris = client.post("/auth/jwt/get_by_phone/", &body).await.ok();
    for pair in [refreshed, boris] {
        for kind in ["access", "refresh"] {
            assert_eq!(key_id(pair[kind].as_str().expect("a token")), *new);
        }
        client.get("/users/current_user/", pair["access"].as_str().expect("a token")).await.ok();
    }

    // Tokens of the former key are valid for thirty days, so the key cannot be removed yet.
    let before = read(directory.path(), KEYS);
    let output = run(directory.path(), &["keys", "rotate", "--step", "drop", "--purpose", "signing"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("is needed until"), "{error}");
    assert_eq!(read(directory.path(), KEYS), before);
}

#[tokio::test]
async fn an_unusable_file_does_not_change_the_loaded_keys() {
    let directory = directory();
    let mut program = Program::start(directory.path(), &[]);
    let client = program.client.clone();
    let anna = client.enter(ANNA, None).await;
    let published = public_ids(&client).await;
    let other = commanded(directory.path(), &["keys", "generate", "--print", "--purpose", "signing"], &[]);
    for file in [KEYS, PEPPERS] {
        commanded(directory.path(), &["keys", "rotate"], &[]);
        let path = directory.path().join(file);
        let whole = read(directory.path(), file);
        for (content, mode, reason) in [
            (Some(&*whole), 0o644, "chmod 600"),
            (Some(&whole[..whole.len() / 2]), 0o600, "not a JSON Web Key Set"),
            (Some(r#"{"keys": []}"#), 0o600, "has no key"),
            (
                Some(&*other),
                0o600,
                if file == KEYS { "in use with the signing key" } else { "is not a pepper" },
            ),
            (None, 0o600, "there is no file"),
        ] {
            match content {
                Some(content) => fs::write(&path, content).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            if content.is_some() {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            }
            let logged = program.reload();
            assert!(
                logged.contains("failed to reload the keys") && logged.contains(reason),
                "{file}: {logged}"
            );
            assert_eq!(public_ids(&client).await, published);
            client.get("/users/current_user/", &anna.access).await.ok();
            assert_eq!(key_id(&client.enter(BORIS, None).await.access), published[0]);
        }
        fs::write(&path, &whole).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    // The reload succeeds as soon as the files are valid.
    assert!(program.reload().contains("reloaded the keys"));
    assert_ne!(public_ids(&client).await, published);
    client.get("/users/current_user/", &anna.access).await.ok();
}

#[test]
fn keys_are_generated_once_and_listed_without_their_secrets() {
    let directory = directory();
    let printed = commanded(directory.path(), &["keys", "generate", "--algorithm", "hs256"], &[]);
    assert!(printed.contains("keys.json") && printed.contains("peppers.json"), "{printed}");
    let files = [KEYS, PEPPERS].map(|file| read(directory.path(), file));
    assert_eq!([KEYS, PEPPERS].map(|file| mode(&directory.path().join(file))), [0o600; 2]);
    for purpose in [&["--purpose", "pepper"][..], &[]] {
        let output = run(directory.path(), &[&["keys", "generate"], purpose].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("already exists"), "{error}");
    }
    assert_eq!([KEYS, PEPPERS].map(|file| read(directory.path(), file)), files, "the files must not change");

    let given = commanded(directory.path(), &["keys", "generate", "--print", "--purpose", "signing"], &[]);
    let environment = [("REFERRAL_KEYS", &*given)];
    commanded(directory.path(), &["keys", "rotate", "--purpose", "pepper"], &environment);
    let table = commanded(directory.path(), &["keys", "list"], &environment);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let [signing, peppers] = [&given, &read(directory.path(), PEPPERS)].map(|set| ids(set));
    let [signing, first, second] =
        [&signing[0], &peppers[0], &peppers[1]].map(|id| id.as_str().expect("an id"));
    let place = format!("./{PEPPERS}");
    assert_eq!(
        rows,
        [
            &["PURPOSE", "KEY", "ALGORITHM", "USE", "FROM"][..],
            &["signing", "key", signing, "EdDSA", "signs", "REFERRAL_KEYS"],
            &["pepper", first, "HS256", "hashes", &place],
            &["pepper", second, "HS256", "verifies", &place],
        ]
    );
    let own: Value = serde_json::from_str(&files[0]).expect("JSON");
    assert_eq!(own["keys"][0]["kty"], "oct");
    let own_list = commanded(directory.path(), &["keys", "list", "--purpose", "signing"], &[]);
    assert!(own_list.contains("HS256") && !own_list.contains("pepper"), "{own_list}");
    for secret in
        [&own["keys"][0]["k"], &serde_json::from_str::<Value>(&given).expect("JSON")["keys"][0]["d"]]
    {
        let secret = secret.as_str().expect("a secret");
        assert!(!table.contains(secret) && !own_list.contains(secret));
    }
}

#[test]
fn a_key_set_of_the_other_purpose_is_rejected_with_the_name_of_its_source() {
    let directory = directory();
    commanded(directory.path(), &["keys", "generate", "--algorithm", "hs256"], &[]);
    let [keys, peppers] = [KEYS, PEPPERS].map(|file| read(directory.path(), file));
    let rejected = |arguments: &[&str], environment: &[(&str, &str)], sentences: [&str; 2]| {
        let output = run_with(directory.path(), arguments, environment);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.lines().count() == 1, "{error}");
        assert!(sentences.iter().all(|sentence| error.contains(sentence)), "{arguments:?}: {error}");
    };
    for command in [&["serve"][..], &["keys", "list"], &["keys", "rotate", "--print", "--purpose", "signing"]]
    {
        let sentences = ["REFERRAL_KEYS", "is not a signing key"];
        rejected(command, &[("REFERRAL_KEYS", &peppers)], sentences);
        rejected(&[command, &["--key-file", PEPPERS]].concat(), &[], [PEPPERS, "is not a signing key"]);
    }
    rejected(&["serve"], &[("REFERRAL_PEPPERS", &keys)], ["REFERRAL_PEPPERS", "is not a pepper"]);
    rejected(&["--pepper-file", KEYS], &[], [KEYS, "is not a pepper"]);

    // A manually created set without the member `use`.
    let mut set: Value = serde_json::from_str(&keys).expect("JSON");
    set["keys"][0].as_object_mut().expect("a key").remove("use");
    let set = set.to_string();
    rejected(&["serve"], &[("REFERRAL_KEYS", &set)], ["REFERRAL_KEYS", "add the member \"use\": \"sig\""]);
    rejected(&["serve"], &[("REFERRAL_PEPPERS", &set)], ["REFERRAL_PEPPERS", "\"use\": \"pepper\""]);
}

#[test]
fn each_rotation_step_moves_one_key_and_changes_nothing_else() {
    let directory = directory();
    commanded(directory.path(), &["keys", "generate"], &[]);
    // The rotation preserves symbolic links, the group of a file, and unknown members.
    let [path, target] = [KEYS, "elsewhere.json"].map(|file| directory.path().join(file));
    let mut set: Value = serde_json::from_str(&read(directory.path(), KEYS)).expect("JSON");
    set["keys"][0]["note"] = json!({ "made": "by hand", "in": 2026 });
    set["comment"] = json!(["of the set"]);
    fs::write(&target, set.to_string()).expect("written");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("set");
    let _ = chown(&target, None, Some(10_001));
    let group = fs::metadata(&target).expect("the file exists").gid();
    fs::remove_file(&path).expect("removed");
    symlink(&target, &path).expect("linked");
    let files = || fs::read_dir(directory.path()).expect("a directory").count();
    let before = files();

    let step = |step: &[&str]| {
        commanded(directory.path(), &[&["keys", "rotate", "--purpose", "signing"], step].concat(), &[]);
        assert!(path.is_symlink());
        let metadata = fs::metadata(&target).expect("the file exists");
        assert_eq!((metadata.gid(), metadata.mode() & 0o777), (group, 0o600));
        let written: Value = serde_json::from_str(&read(directory.path(), KEYS)).expect("JSON");
        assert_eq!(written["comment"], set["comment"]);
        assert!(written["keys"].as_array().expect("keys").contains(&set["keys"][0]));
        ids(&written.to_string())
    };
    let old = set["keys"][0]["kid"].clone();
    let first = step(&[]);
    assert_eq!(first[1..], *std::slice::from_ref(&old));
    let added = step(&["--step", "add"]);
    assert_eq!([&added[0], &added[2]], [&first[0], &old]);
    let used = step(&["--step", "use"]);
    assert_eq!(used, [added[1].clone(), first[0].clone(), old.clone()]);
    step(&["--step", "use"]);
    assert_eq!(step(&["--step", "add"]).len(), 4);
    assert_eq!(files(), before, "no temporary file must remain");
    commanded(directory.path(), &["keys", "rotate", "--purpose", "signing", "--step", "drop"], &[]);
    assert!(!ids(&read(directory.path(), KEYS)).contains(&old), "the oldest key must be removed");
}

#[test]
fn a_failed_rotation_reports_the_reason_and_changes_no_file() {
    let directory = directory();
    let rejected = |arguments: &[&str], environment: &[(&str, &str)], sentence: &str| {
        let output = run_with(directory.path(), &[&["keys", "rotate"], arguments].concat(), environment);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(sentence), "{arguments:?}: {error}");
    };
    rejected(&[], &[], "there is no file");
    commanded(directory.path(), &["keys", "generate"], &[]);
    commanded(directory.path(), &["keys", "rotate", "--purpose", "pepper"], &[]);
    let given = read(directory.path(), KEYS);
    let pepper = read(directory.path(), PEPPERS);

    rejected(&["--step", "use"], &[], "no second signing key");
    rejected(&["--step", "drop"], &[], "the only signing key");
    rejected(&["--print"], &[], "--purpose");
    rejected(&["--step", "sideways"], &[], "sideways");
    rejected(&[], &[("REFERRAL_KEYS", &given)], "REFERRAL_KEYS is set");
    rejected(&["--purpose", "signing"], &[("REFERRAL_KEYS", &given)], "--purpose signing --print");
    // If one of the two files cannot be rotated, the other one is not changed either.
    let path = directory.path().join(PEPPERS);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    rejected(&[], &[], "chmod 600");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    assert_eq!([KEYS, PEPPERS].map(|file| read(directory.path(), file)), [given, pepper]);
}

#[test]
fn a_key_set_in_the_environment_is_rotated_by_printing_the_new_set() {
    let directory = directory();
    let print = |command: &[&str], ring: &str| {
        let ring = Some(("REFERRAL_PEPPERS", ring)).filter(|(_, ring)| !ring.is_empty());
        let arguments = [&["keys"], command, &["--purpose", "pepper", "--print"]].concat();
        commanded(directory.path(), &arguments, ring.as_slice())
    };
    let old = print(&["generate"], "");
    let added = print(&["rotate", "--step", "add"], &old);
    let used = print(&["rotate", "--step", "use"], &added);
    let [first, second] = &ids(&added)[..] else { panic!("two peppers: {added}") };
    assert_eq!(*first, ids(&old)[0]);
    assert_eq!(ids(&used), [second.clone(), first.clone()]);
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "no file must be created");
    let dropped = print(&["rotate", "--step", "drop"], &used);
    assert_eq!(ids(&dropped), std::slice::from_ref(second));
}

#[test]
fn files_and_the_data_directory_must_be_inaccessible_to_other_users() {
    let directory = directory();
    let rejected = |arguments: &[&str], path: &str, sentence: &str| {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} with {path}");
        assert!(error.contains(path) && error.contains(sentence), "{arguments:?}: {error}");
    };
    let superuser = ["create-superuser", "--phone", ANNA];
    commanded(directory.path(), &superuser, &[]);
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    let data = directory.path().join("referral-data");
    for (name, private, needed) in [
        ("", 0o700, "chmod 700 ./referral-data"),
        ("keys.json", 0o600, "chmod 600 ./referral-data/keys.json"),
        ("peppers.json", 0o600, "chmod 600 ./referral-data/peppers.json"),
        ("referral.db", 0o600, "referral-data/referral.db"),
    ] {
        let path = data.join(name);
        for mode in [0o040, 0o020, 0o004, 0o002, 0o055] {
            set_mode(&path, private | mode);
            rejected(&superuser, name, needed);
            rejected(&superuser, name, &format!("mode {:04o}", private | mode));
            if name != "referral.db" {
                rejected(&["keys", "list"], name, needed);
                rejected(&["keys", "rotate", "--step", "add"], name, needed);
            }
        }
        set_mode(&path, private);
        // Only root can change the owner of a file.
        let own = fs::metadata(&path).expect("the file exists").uid();
        if chown(&path, Some(10_001), None).is_ok() {
            rejected(&superuser, name, "belongs to user 10001");
            rejected(&superuser, name, &format!("chown {own} "));
            chown(&path, Some(own), None).expect("the owner is restored");
        }
    }
    commanded(directory.path(), &superuser, &[]);

    // The same applies to files in settings, and to an existing directory.
    let file = directory.path().join("public.json");
    fs::write(&file, "{}").expect("written");
    set_mode(&file, 0o644);
    rejected(&["--key-file", "public.json"], "public.json", "chmod 600");
    rejected(&["--pepper-file", "public.json"], "public.json", "chmod 600");
    rejected(&["--database-url", "sqlite:public.json"], "public.json", "chmod 600");
    fs::create_dir(directory.path().join("open")).expect("created");
    set_mode(&directory.path().join("open"), 0o755);
    rejected(&["--data-dir", "open"], "open", "chmod 700 open");
    rejected(&["keys", "generate", "--data-dir", "open"], "open", "chmod 700 open");
    assert_eq!(fs::read_dir(directory.path().join("open")).expect("a directory").count(), 0);
}
