//! Failures of connections and of the server.

use redis::{AsyncConnectionConfig, Client, RedisResult};
use referral_core::{
    Check, conformance,
    storage::{MaintenanceStorage as _, SharedSetting, StorageError},
};
use referral_example_redis::RedisStorage;

use crate::server;

/// Runs a test on a server of its own, with a client of an operator.
fn on_own_server(test: impl AsyncFnOnce(RedisStorage, Client)) {
    let Some(server) = server::start() else { return };
    conformance::run(async {
        let storage = RedisStorage::new(&server.url, "").expect("valid URL");
        let operator = Client::open(server.url.as_str()).expect("valid URL");
        storage.record_settings(&settings()).await.expect("recorded");
        test(storage, operator).await;
    });
}

fn settings() -> [SharedSetting; 1] {
    [SharedSetting::new("issuer", "one")]
}

/// Executes a command of an operator.
async fn execute(operator: &Client, command: &[&str]) -> RedisResult<()> {
    // The default timeouts are too short for a busy machine.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connection = operator.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connection.expect("connected");
    let (name, arguments) = command.split_first().expect("a command");
    redis::cmd(name).arg(arguments).exec_async(&mut connection).await
}

#[test]
fn lost_connections_are_replaced() {
    on_own_server(async |storage, operator| {
        execute(&operator, &["CLIENT", "KILL", "TYPE", "normal"]).await.expect("killed");
        assert_eq!(storage.shared_settings().await.expect("read"), settings());
    });
}

#[test]
fn server_that_rejects_writes_is_not_ready() {
    on_own_server(async |storage, operator| {
        execute(&operator, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await.expect("set");
        let database = storage.check_ready().await.database;
        assert!(matches!(database, Check::Failed(_)), "{database:?}");
        storage.record_settings(&settings()).await.expect_err("not recorded");
        assert_eq!(storage.shared_settings().await.expect("read"), settings());
    });
}

#[test]
fn stopped_server_is_unavailable() {
    on_own_server(async |storage, operator| {
        execute(&operator, &["SHUTDOWN", "NOSAVE"]).await.expect_err("no response");
        let read = storage.shared_settings().await;
        assert!(matches!(read, Err(StorageError::Unavailable(_))), "{read:?}");
    });
}
