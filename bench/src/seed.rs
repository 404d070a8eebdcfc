//! Fills a database in bulk with users, as after some years of production.
//!
//! User number `n` has the phone `+7960` followed by `n` in seven digits. One popular inviter invited most
//! users. A chain of inviters is a thousand users long. Of the remaining users, one third has no inviter. The
//! others were invited by an earlier user; the earlier a user, the more likely it is the inviter.

use std::fmt::Write as _;

use referral_core::{
    Email, InviteCode, InvitedBy, Metadata, Name, PhoneNumber, User, UserId, storage::SearchKeys,
};
use referral_sqlx::ngrams;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

/// Number of users of the large database: a million invitees of the most popular inviter, and a quarter of a
/// million others.
pub(crate) const LARGE: u64 = 1_250_000;

/// Number of users of the small database.
pub(crate) const SMALL: u64 = 1_000;

/// Maximum length of a chain of inviters.
const MAX_CHAIN: u64 = 1_000;

/// Number of the user with the most invitees.
pub(crate) const POPULAR: u64 = 1;

/// Returns the length of the longest chain of inviters. It ends with the last user.
fn chain(users: u64) -> u64 {
    MAX_CHAIN.min(users - popular_has(users) - 50)
}

fn popular_has(users: u64) -> u64 {
    if users > 10 * SMALL { users * 4 / 5 } else { 100 }
}

const FIRST: [&str; 16] = [
    "Анна",
    "Борис",
    "Вера",
    "Галина",
    "Дмитрий",
    "Елена",
    "Жанар",
    "Зоя",
    "Иван",
    "Ксения",
    "Anna",
    "Boris",
    "Clara",
    "Daniel",
    "Эльвира",
    "Мария",
];
const LAST: [&str; 12] = [
    "Иванов",
    "Петров",
    "Сидоров",
    "Ким",
    "Ли",
    "Ахметов",
    "Smith",
    "Müller",
    "O'Neil",
    "García",
    "Садыков",
    "Орлов",
];

/// Returns a pseudorandom number that is the same in each run.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(crate) fn id(number: u64) -> Uuid {
    // Version 7, a millisecond apart.
    Uuid::from_u128(
        ((0x0190_0000_0000 + u128::from(number)) << 80) | (0x7 << 76) | (0x8 << 60) | u128::from(number),
    )
}

/// Returns an invite code of six symbols, which is unique for each number and does not ascend with it.
fn code(number: u64) -> InviteCode {
    const SYMBOLS: &[u8] = b"23456789BCDFGHJKMNPQRSTVWXYZ";
    let mut rest = (number * 7_919_111 + 104_729) % 28_u64.pow(6);
    let mut code = String::new();
    for _ in 0..6 {
        code.push(char::from(SYMBOLS[usize::try_from(rest % 28).unwrap_or_default()]));
        rest /= 28;
    }
    InviteCode::parse(&code).expect("six symbols")
}

fn inviter(number: u64, users: u64) -> Option<u64> {
    if number <= POPULAR {
        None
    } else if number <= POPULAR + popular_has(users) {
        Some(POPULAR)
    } else if number > users - chain(users) {
        Some(number - 1)
    } else if number.is_multiple_of(3) {
        None
    } else {
        // The square makes early users more likely.
        let scattered = scatter(number) % number;
        Some(1 + scattered * scattered / number)
    }
}

fn user(number: u64, users: u64) -> User {
    let scattered = scatter(number);
    let pick = |list: &[&str], by: u64| {
        let index = (by % 997).pow(2) * list.len() as u64 / 997_u64.pow(2);
        list[usize::try_from(index).unwrap_or_default()].to_owned()
    };
    let is_rare = number % (users / 10) == 5;
    let has_name = is_rare || !scattered.is_multiple_of(4);
    // A few users have a rare name. Their number does not depend on the number of users.
    let first = if is_rare { "Аристарх".to_owned() } else { pick(&FIRST, scattered >> 8) };
    User {
        id: UserId(id(number)),
        phone: PhoneNumber::from_stored(format!("+7960{number:07}")).expect("a phone"),
        invite_code: code(number),
        invited_by: inviter(number, users)
            .map(|inviter| InvitedBy { inviter: UserId(id(inviter)), code: code(inviter) }),
        invited_count: 0,
        email: scattered
            .is_multiple_of(2)
            .then(|| Email::parse(&format!("user{number}@example.com")).expect("an address")),
        first_name: has_name.then(|| Name::parse(&first).expect("a name")),
        last_name: has_name.then(|| Name::parse(&pick(&LAST, scattered >> 20)).expect("a name")),
        staff_role: None,
        is_active: true,
        date_joined: referral_core::clock::Clock::now(&referral_core::clock::SystemClock),
        last_login: None,
        last_active: None,
        phone_detached_at: None,
        external_id: None,
        metadata: Metadata::default(),
        deletion_at: None,
    }
}

/// Fills the database of the URL, and prints the phones of its users.
pub(crate) async fn fill(url: &str, users: u64) {
    referral_sqlx::connect(url).await.expect("opened").close().await;
    if url.starts_with("sqlite:") {
        sqlite(url, users).await;
    } else {
        postgres(url, users).await;
    }
    println!("{users} users, from +79600000001 on; the first has the most invitees");
}

/// Fills an empty PostgreSQL database that has its schema.
pub(crate) async fn postgres(url: &str, users: u64) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    // Updating triggers and indexes row by row would take an hour: the counts and the index are created at
    // the end.
    let ngrams = "SELECT pg_get_indexdef('referral.user_search_ngrams'::regclass)";
    let index: String = sqlx::query_scalar(ngrams).fetch_one(&mut connection).await.expect("an index");
    connection.execute("DROP INDEX referral.user_search_ngrams").await.expect("dropped");
    connection
        .execute("SET session_replication_role = replica; SET synchronous_commit = off")
        .await
        .expect("set");

    for table in ["users", "user_search", "invitations"] {
        let columns = match table {
            "users" => "(id, phone, invite_code, email, first_name, last_name, is_active, date_joined)",
            "user_search" => "(user_id, public, private, ngrams)",
            _ => "(invitee, inviter, code, accepted_at, via)",
        };
        let statement = format!("COPY referral.{table} {columns} FROM STDIN");
        let mut copy = connection.copy_in_raw(&statement).await.expect("started");
        let mut text = String::new();
        for number in 1..=users {
            push_row(&mut text, table, &user(number, users));
            if text.len() > 1 << 20 || number == users {
                copy.send(text.as_bytes()).await.expect("sent");
                text.clear();
            }
        }
        copy.finish().await.expect("copied");
    }
    let counts = "UPDATE referral.users u SET invited_count = c.n FROM \
                  (SELECT inviter, count(*) AS n FROM referral.invitations GROUP BY inviter) c WHERE u.id = c.inviter; \
                  UPDATE referral.user_totals SET users = (SELECT count(*) FROM referral.users) WHERE slot = 0";
    for sql in [counts, &index, "VACUUM ANALYZE"] {
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.expect("done");
    }
}

/// Writes a row of a table in the text format of COPY. No value has a tab or a backslash. Only the search
/// texts have line feeds, which are escaped.
fn push_row(text: &mut String, table: &str, user: &User) {
    let or_null = |value: Option<&str>| value.unwrap_or("\\N").to_owned();
    let id = user.id;
    let _ = match table {
        "users" => writeln!(
            text,
            "{id}\t{}\t{}\t{}\t{}\t{}\tt\t{}",
            user.phone.as_str(),
            user.invite_code.as_str(),
            or_null(user.email.as_ref().map(Email::as_str)),
            or_null(user.first_name.as_ref().map(Name::as_str)),
            or_null(user.last_name.as_ref().map(Name::as_str)),
            user.date_joined,
        ),
        "user_search" => {
            let keys = SearchKeys::of(user);
            let escaped = |text: &str| text.replace('\n', "\\n");
            let ngrams: Vec<_> = ngrams(&keys).iter().map(|ngram| ngram.cast_signed().to_string()).collect();
            let (public, private) = (escaped(&keys.public), escaped(&keys.private));
            writeln!(text, "{id}\t{public}\t{private}\t{{{}}}", ngrams.join(","))
        }
        _ => match &user.invited_by {
            Some(named) => writeln!(
                text,
                "{id}\t{}\t{}\t{}\tsign_up",
                named.inviter,
                named.code.as_str(),
                user.date_joined
            ),
            None => Ok(()),
        },
    };
}

/// Statements that insert the rows of a JSON array. Many rows in one statement are faster than as many
/// statements.
const INSERTS: [&str; 4] = [
    "INSERT INTO referral_users (id, phone, invite_code, email, first_name, last_name, is_active, \
                        date_joined, search_public, search_private) \
     SELECT unhex(value ->> 'id'), value ->> 'phone', value ->> 'code', value ->> 'email', \
            value ->> 'first_name', value ->> 'last_name', 1, value ->> 'joined', value ->> 'public', \
            value ->> 'private' FROM json_each($1)",
    "INSERT INTO referral_user_numbers (user_id) SELECT unhex(value ->> 'id') FROM json_each($1)",
    "INSERT INTO referral_user_ngrams (rowid, ngrams) \
     SELECT (SELECT number FROM referral_user_numbers WHERE user_id = unhex(value ->> 'id')), value ->> 'words' \
     FROM json_each($1)",
    "INSERT INTO referral_invitations (invitee, inviter, code, accepted_at, via) \
     SELECT unhex(value ->> 'id'), unhex(value ->> 'inviter'), value ->> 'inviter_code', 0, 'sign_up' \
     FROM json_each($1) WHERE value ->> 'inviter' IS NOT NULL",
];

fn json_row(user: &User) -> serde_json::Value {
    let keys = SearchKeys::of(user);
    let words: Vec<_> = ngrams(&keys).iter().map(|ngram| format!("g{ngram:x}")).collect();
    let invited_by = user.invited_by.as_ref();
    serde_json::json!({
        "id": user.id.0.simple().to_string(),
        "phone": user.phone.as_str(),
        "code": user.invite_code.as_str(),
        "email": user.email.as_ref().map(Email::as_str),
        "first_name": user.first_name.as_ref().map(Name::as_str),
        "last_name": user.last_name.as_ref().map(Name::as_str),
        "joined": user.date_joined.unix_timestamp() * 1_000_000,
        "public": keys.public,
        "private": keys.private,
        "words": words.join(" "),
        "inviter": invited_by.map(|invited_by| invited_by.inviter.0.simple().to_string()),
        "inviter_code": invited_by.map(|invited_by| invited_by.code.as_str()),
    })
}

/// Fills an SQLite file that has its schema.
pub(crate) async fn sqlite(url: &str, users: u64) {
    let options: SqliteConnectOptions = url.parse().expect("a URL");
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
    connection
        .execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN")
        .await
        .expect("started");
    let numbers: Vec<u64> = (1..=users).collect();
    for numbers in numbers.chunks(1_000) {
        let rows: Vec<_> = numbers.iter().map(|number| json_row(&user(*number, users))).collect();
        let rows = serde_json::Value::Array(rows).to_string();
        for insert in INSERTS {
            sqlx::query(insert).bind(&rows).execute(&mut connection).await.expect("inserted");
        }
    }
    connection.execute("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").await.expect("committed");
    connection.close().await.expect("closed");
}
