use signal_hook::consts::SIGHUP;

use super::{CREATE_CLUSTER_FOLDER, Interrupts, forbids_main_cluster};

#[test]
fn what_the_package_ships_reads_the_folder() {
    let shipped = format!(
        "#create_main_cluster = true\nssl = on\nadd_include_dir = 'conf.d'\n\
         include_dir '{CREATE_CLUSTER_FOLDER}'\n"
    );
    assert!(forbids_main_cluster(&shipped));
}

#[test]
fn a_file_that_reads_nothing_else_must_forbid_the_cluster_itself() {
    assert!(forbids_main_cluster("create_main_cluster = 'off' # by hand\n"));
    assert!(!forbids_main_cluster("ssl = on\n"));
    assert!(!forbids_main_cluster("create_main_cluster = true\n"));
    assert!(!forbids_main_cluster("#create_main_cluster = false\n"));
}

#[test]
fn the_last_word_counts() {
    let allowed_again =
        format!("include_dir = '{CREATE_CLUSTER_FOLDER}'\ncreate_main_cluster on\n");
    assert!(!forbids_main_cluster(&allowed_again));
}

#[test]
fn an_interrupt_is_noticed_and_survived() {
    let interrupts = Interrupts::hold_back().unwrap();
    assert!(!interrupts.any());
    signal_hook::low_level::raise(SIGHUP).unwrap();
    assert!(interrupts.any());
}
