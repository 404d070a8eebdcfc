//! Tests of the command `create-superuser`.

use crate::{
    program::{Program, directory, run},
    service::{ANNA, BORIS},
};

#[tokio::test]
async fn a_superuser_is_created_and_signs_in_like_other_users() {
    let directory = directory();
    for _ in 0..2 {
        let output = run(directory.path(), &["create-superuser", "--phone", "+7 960 854-30-17"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("+79608543017 is an admin"));
    }
    let program = Program::start(directory.path(), &["--visibility", "staff"]);
    let staff = program.client.enter(ANNA, None).await;
    assert_eq!(staff.body["created"], false);
    program.client.get("/users/", &staff.access).await.ok();
    let other = program.client.enter(BORIS, None).await;
    program.client.get("/users/", &other.access).await.assert_problem(403, "staff_only");

    let output = run(directory.path(), &["create-superuser", "--phone", "12"]);
    assert!(!output.status.success());
}
