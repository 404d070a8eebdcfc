//! Tests of connections that compete for places.

use std::time::Duration;

use tokio::time::timeout;

use crate::listener::{
    Limits,
    tests::{
        client::{Client, GET, LIMITS, LOCAL, peer, run_ready_tasks, server},
        http2::{PREFACE, get_over_http2},
    },
};

#[tokio::test(start_paused = true)]
async fn a_new_connection_replaces_the_oldest_idle_one_of_the_address_with_the_most() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 4, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    let second = Client::connect_to(&server, 1);
    let other = Client::connect_to(&server, 2);
    let third = Client::connect_to(&server, 1);
    // The connection is in use, so it is not evicted.
    first.send(GET).await;
    run_ready_tasks().await;
    let connection = server.admit(LOCAL, peer(3)).await;
    run_ready_tasks().await;
    assert!(second.served.is_finished() && !third.served.is_finished() && !other.served.is_finished());
    let mut newcomer = Client::connect_with(&server, connection);
    newcomer.send(GET).await;
    newcomer.read_response().await;
    first.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn an_eighth_of_the_connections_may_use_http2() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 16, ..LIMITS });
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect_to(&server, 1)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        // The preface is sent in parts, and the second client sends a request.
        client.send(&PREFACE[..20]).await;
        run_ready_tasks().await;
        let rest = if index == 1 { get_over_http2(&[])[20..].to_vec() } else { PREFACE[20..].to_vec() };
        client.send(&rest).await;
        run_ready_tasks().await;
    }
    let is_finished: Vec<_> = clients.iter().map(|client| client.served.is_finished()).collect();
    assert_eq!(is_finished, [true, false, false]);
    // While both connections are in use, there is no place for a third one.
    clients[2].send(&get_over_http2(&[])[PREFACE.len()..]).await;
    run_ready_tasks().await;
    let mut third = Client::connect_to(&server, 2);
    third.send(PREFACE).await;
    run_ready_tasks().await;
    assert!(third.served.is_finished() && !clients[1].served.is_finished());
    let mut other = Client::connect_to(&server, 2);
    other.send(GET).await;
    other.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_waits_while_all_connections_are_in_use() {
    let server = server(Duration::from_secs(30), 0, Limits { connections: 1, ..LIMITS });
    let mut first = Client::connect_to(&server, 1);
    first.send(GET).await;
    run_ready_tasks().await;
    let connection = server.admit(LOCAL, peer(2)).await;
    assert_eq!(first.connected.elapsed().as_secs(), 30);
    let mut newcomer = Client::connect_with(&server, connection);
    newcomer.send(GET).await;
    newcomer.read_response().await;
}

#[tokio::test(start_paused = true)]
async fn connections_are_replaced_in_the_order_of_their_admission() {
    let server = server(Duration::ZERO, 0, Limits { connections: 2, ..LIMITS });
    let oldest = server.admit(LOCAL, peer(1)).await;
    let mut second = Client::connect_to(&server, 1);
    run_ready_tasks().await;
    // The task of the oldest connection has not run yet.
    let third = timeout(Duration::from_secs(1), server.admit(LOCAL, peer(2))).await.expect("a place");
    let oldest = Client::connect_with(&server, oldest);
    run_ready_tasks().await;
    assert!(oldest.served.is_finished() && !second.served.is_finished());
    let mut third = Client::connect_with(&server, third);
    for client in [&mut second, &mut third] {
        client.send(GET).await;
        client.read_response().await;
    }
}
