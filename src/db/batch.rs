//! Many rows in one statement.

/// `head` followed by `rows` groups of `columns` placeholders and `tail`, for each number of rows
/// from 1 to `most`. Made once for each statement (`LazyLock`): the layer takes static text only.
#[must_use]
pub fn batches(head: &str, columns: usize, tail: &str, most: usize) -> Vec<&'static str> {
    let group = |row: usize| {
        let cells: Vec<String> = (1..=columns).map(|c| format!("${}", row * columns + c)).collect();
        format!("({})", cells.join(", "))
    };
    let statement = |rows: usize| -> &'static str {
        let groups: Vec<String> = (0..rows).map(group).collect();
        format!("{head} VALUES {} {tail}", groups.join(", ")).leak()
    };
    (1..=most).map(statement).collect()
}

#[cfg(test)]
mod tests {
    use super::batches;

    #[test]
    fn a_statement_for_each_number_of_rows() {
        let made = batches("INSERT INTO t (a, b)", 2, "", 2);
        assert_eq!(made[0].trim(), "INSERT INTO t (a, b) VALUES ($1, $2)");
        assert_eq!(made[1].trim(), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
