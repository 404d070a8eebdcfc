use referral_core::conformance;

use crate::{CONNECTIONS, RedisStorage, server};

/// Runs a test on an empty storage. Without a server, which is reported, does nothing.
fn on_redis(test: impl AsyncFnOnce(RedisStorage)) {
    let Some((url, prefix)) = server::empty_database() else { return };
    conformance::run(async { test(RedisStorage::new(url, &prefix).expect("valid URL")).await });
}

/// Writes a value in a transaction of its own.
async fn set(storage: &RedisStorage, key: &str, value: u32) {
    let mut tx = storage.start().await.expect("started");
    tx.set(key, &value).expect("serialized");
    tx.commit(()).await.expect("sent").expect("no conflict");
}

async fn value(storage: &RedisStorage, key: &str) -> Option<u32> {
    storage.start().await.expect("started").value(key).await.expect("read")
}

#[test]
fn changed_value_prevents_the_commit() {
    on_redis(async |storage| {
        set(&storage, "old", 1).await;
        for read in ["old", "missing"] {
            let mut tx = storage.start().await.expect("started");
            tx.value::<u32>(read).await.expect("read");
            tx.set("written", &1).expect("serialized");
            set(&storage, read, 2).await;
            assert_eq!(tx.commit(()).await.expect("sent"), None, "{read}");
        }
        assert_eq!(value(&storage, "written").await, None);
    });
}

#[test]
fn changed_list_prevents_the_commit() {
    on_redis(async |storage| {
        let mut tx = storage.start().await.expect("started");
        assert_eq!(tx.newest("list", None, 1).await.expect("read"), [""; 0]);
        let mut other = storage.start().await.expect("started");
        other.write("ZADD", "list").arg(0).arg("id");
        other.commit(()).await.expect("sent").expect("no conflict");
        assert_eq!(tx.commit(()).await.expect("sent"), None);
    });
}

#[test]
fn transaction_without_writes_is_committed_only_if_nothing_has_changed() {
    on_redis(async |storage| {
        for (change, expected) in [(false, Some("outcome")), (true, None)] {
            let mut tx = storage.start().await.expect("started");
            tx.value::<u32>("key").await.expect("read");
            if change {
                set(&storage, "key", 1).await;
            }
            assert_eq!(tx.commit("outcome").await.expect("sent"), expected);
        }
    });
}

#[test]
fn transaction_reads_its_own_writes() {
    on_redis(async |storage| {
        set(&storage, "key", 1).await;
        let mut tx = storage.start().await.expect("started");
        tx.set("key", &2).expect("serialized");
        assert_eq!(tx.value("key").await.expect("read"), Some(2));
        assert_eq!(value(&storage, "key").await, Some(1), "the write is not committed");
        tx.remove("key");
        assert_eq!(tx.value::<u32>("key").await.expect("read"), None);
        tx.commit(()).await.expect("sent").expect("no conflict");
        assert_eq!(value(&storage, "key").await, None);
    });
}

#[test]
fn abandoned_transaction_causes_no_later_conflict() {
    on_redis(async |storage| {
        // Each connection of the pool has read the key.
        let mut abandoned = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut tx = storage.start().await.expect("started");
            tx.value::<u32>("key").await.expect("read");
            abandoned.push(tx);
        }
        let tx = abandoned.pop();
        drop(tx);
        set(&storage, "key", 1).await;
        drop(abandoned);
        for _ in 0..CONNECTIONS {
            set(&storage, "other", 1).await;
        }
    });
}
