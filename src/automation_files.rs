// Included by `automation.rs`: the list of embedded files, sorted. The test
// `the_list_names_every_file_of_the_tree_and_is_sorted` prints the right one when it is not.
embedded! {
    "pyproject.toml",
    "requirements.lock",
}
