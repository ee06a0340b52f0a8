"""A wrong key stops the start with file, line, field, what was expected and what came."""

import errno
import os
from pathlib import Path

import pytest

from echo_proxy.errors import PolicyError
from echo_proxy.policy_files import find_policies, load_policies, load_policy, parse_policy

TEXT = """\
# a comment
name: test
match:
  model_groups: [auto]

arms:
  - {deployment: small, n_examples: 2}
  - deployment: large
    teacher: true

bandit:
  kind: epsilon_greedy
  epsilon: 0.1
  prior:
    reward: 0.5

selection:
  utility:
    width: 0.06
"""
FIXED = TEXT.replace("  kind: epsilon_greedy\n  epsilon: 0.1\n", "  kind: fixed\n  probabilities: {large+0: 1.0}\n")


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "p.yaml")
    return str(caught.value)


def test_a_policy_is_read(tmp_path: Path) -> None:
    """As it stands in the file."""
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)

    made = load_policy(path)

    assert (made.name, made.match.model_groups, made.bandit.kind) == ("test", ("auto",), "epsilon_greedy")
    assert [arm.name for arm in made.to_arms()] == ["small+2", "large+0"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: test", "nam: test\nname: test", "p.yaml:2: nam: no such key is known here"),
        ("    width: 0.06", "    widht: 0.06", "p.yaml:19: selection.utility.widht: no such key is known here"),
        ("    teacher: true", "    teachr: true", "p.yaml:9: arms.1.teachr: no such key is known here"),
        ("    reward: 0.5", "    rewrad: 0.5", "p.yaml:15: bandit.prior.rewrad: no such key is known here"),
        ("  epsilon: 0.1", "  ucb1: 0.1", "p.yaml:13: bandit.ucb1: no such key is known here"),
        (
            "    width: 0.06",
            "    width: 7",
            "p.yaml:19: selection.utility.width: Input should be less than or equal to 1, got 7",
        ),
        (
            "    reward: 0.5",
            "    reward: -1",
            "p.yaml:15: bandit.prior.reward: Input should be greater than or equal to 0",
        ),
        (
            "n_examples: 2}",
            "n_examples: two}",
            "p.yaml:7: arms.0.n_examples: Input should be a valid integer, got 'two'",
        ),
        (
            "  epsilon: 0.1",
            "  estimate: {kind: linear, noise: 2}",
            "p.yaml:13: bandit.estimate.noise: Input should be less than or equal to 1",
        ),
        ("  epsilon: 0.1", "  epsilon: yes", "p.yaml:13: bandit.epsilon: Input should be a valid number, got True"),
        ("    teacher: true", "    teacher: 1", "p.yaml:9: arms.1.teacher: Input should be a valid boolean, got 1"),
        (
            "  model_groups: [auto]",
            "  model_groups: auto",
            "p.yaml:4: match.model_groups: Input should be a valid tuple",
        ),
        ("  model_groups: [auto]", "  {}", "p.yaml:3: match.model_groups: Field required"),
        ("name: test\n", "", "p.yaml:2: name: Field required"),
        ("- deployment: large\n    teacher", "- teacher", "p.yaml:8: arms.1.deployment: Field required"),
        ("  kind: epsilon_greedy\n", "", "p.yaml:11: bandit: Unable to extract tag using discriminator 'kind'"),
        ("kind: epsilon_greedy", "kind: thompson", "p.yaml:11: bandit: Input tag 'thompson' found using 'kind'"),
        (
            "deployment: large",
            "deployment: small\n    n_examples: 2",
            "p.yaml:2: policy: arms must have different names",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, expected: str) -> None:
    """File, line, field, expected and got."""
    assert TEXT.count(old) == 1
    assert complaint(TEXT.replace(old, new)).startswith(expected)


def test_every_mistake_is_told_at_once() -> None:
    """One line each."""
    text = TEXT.replace("epsilon: 0.1", "epsilon: 2").replace("width", "widht")

    assert [line.split(": ")[0:2] for line in complaint(text).splitlines()] == [
        ["p.yaml:13", "bandit.epsilon"],
        ["p.yaml:19", "selection.utility.widht"],
    ]


def test_an_arm_may_be_called_like_a_bandit() -> None:
    """Its name is not taken for a bandit's kind in the path to the mistake."""
    text = FIXED.replace("{large+0: 1.0}", "\n    uniform: 2.0")

    assert complaint(text).startswith(
        "p.yaml:14: bandit.probabilities.uniform: Input should be less than or equal to 1"
    )


def test_probabilities_that_do_not_sum_to_one_are_told_with_their_bandit() -> None:
    """A rule over several keys names the part that holds them."""
    text = FIXED.replace("large+0: 1.0", "large+0: 0.5")

    assert complaint(text) == "p.yaml:11: bandit: probabilities must sum to 1, got 0.5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nmatch: {}\nname: b\n", "p.yaml:3: expected YAML, got: key 'name' stands twice"),
        ("name: a\nmatch:\n  x: 1\n  x: 2\n", "p.yaml:4: expected YAML, got: key 'x' stands twice"),
        ("name: [a\nmatch: b\n", "p.yaml:2: expected YAML, got: expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", "p.yaml:2: expected YAML, got: but found another document"),
        ("name: a\nx: \x07\n", "p.yaml:2: expected YAML, got: special characters are not allowed"),
        ("name: a\n[1, 2]: 3\n", "p.yaml:2: expected YAML, got: found unhashable key"),
        ("!!python/object:os.system {}\n", "p.yaml:1: expected YAML, got: could not determine a constructor"),
        ("", "p.yaml:1: expected a mapping with name, match, arms, bandit; got NoneType"),
        ("# nothing\n", "p.yaml:1: expected a mapping with name, match, arms, bandit; got NoneType"),
        ("- a\n- b\n", "p.yaml:1: expected a mapping with name, match, arms, bandit; got list"),
        ("just words", "p.yaml:1: expected a mapping with name, match, arms, bandit; got str"),
    ],
)
def test_what_is_no_mapping_is_told(text: str, expected: str) -> None:
    """Broken YAML, a key that stands twice, an empty file."""
    assert complaint(text).startswith(expected)


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """With the line of the first bad byte."""
    path = tmp_path / "p.yaml"
    path.write_bytes(b"name: a\n# caf\xe9\n")

    with pytest.raises(PolicyError) as caught:
        load_policy(path)

    assert str(caught.value) == f"{path}:2: expected UTF-8, got byte 0xe9"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By load_policy and by find_policies."""
    with pytest.raises(PolicyError, match=r"nowhere\.yaml: expected a readable policy file, got No such file"):
        load_policy(tmp_path / "nowhere.yaml")
    with pytest.raises(PolicyError, match="nowhere: expected a policy file or a folder of them, got nothing there"):
        find_policies([tmp_path / "nowhere"])


def test_a_folder_gives_its_yaml_files_in_order(tmp_path: Path) -> None:
    """Files can be named beside it."""
    inside = tmp_path / "policies"
    inside.mkdir()
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (inside / name).write_text("")
    alone = tmp_path / "c.yml"
    alone.write_text("")

    assert find_policies([inside, alone]) == (inside / "a.yaml", inside / "b.yaml", alone)


def write(folder: Path, name: str, group: str) -> Path:
    path = folder / f"{name}-{group}.yaml"
    path.write_text(TEXT.replace("name: test", f"name: {name}").replace("[auto]", f"[{group}]"))
    return path


def test_several_policies_are_loaded(tmp_path: Path) -> None:
    """In the files' order."""
    write(tmp_path, "a", "one")
    write(tmp_path, "b", "two")

    assert [made.name for made in load_policies([tmp_path])] == ["a", "b"]


@pytest.mark.parametrize(
    ("other", "claim"), [(("a", "two"), "name a is taken by"), (("b", "one"), "model group one is taken by")]
)
def test_two_policies_share_neither_name_nor_group(tmp_path: Path, other: tuple[str, str], claim: str) -> None:
    """The message names both files."""
    first, second = write(tmp_path, "a", "one"), write(tmp_path, *other)

    with pytest.raises(PolicyError) as caught:
        load_policies([first, second])

    assert str(caught.value) == f"{second}: {claim} {first}; expected each in one policy only"


def test_no_policy_at_all_is_a_mistake(tmp_path: Path) -> None:
    """An empty folder would mean a proxy that does nothing."""
    with pytest.raises(PolicyError, match="expected at least one policy file in"):
        load_policies([tmp_path])
    with pytest.raises(PolicyError, match="in no place, got none"):
        load_policies([])


def test_the_policies_that_we_ship_are_valid() -> None:
    """Each with a name and groups of its own."""
    found = load_policies([Path(__file__).parent.parent / "policies"])

    assert "default" in [made.name for made in found]


@pytest.mark.parametrize(
    "value",
    [
        "2024-99-99",
        "0x_",
        "!!int x",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
        "1:" * 200 + "1.5",
        "0x" + "f" * 5_000,
        "{deeper: 0x_}",
        '"\\U00110000"',
        '"\\UFFFFFFFF"',
        "[" * 5_000,
    ],
    ids=lambda value: value[:20],
)
def test_a_value_that_yaml_cannot_read_is_told_with_its_line(value: str) -> None:
    """PyYAML raises ValueError, KeyError and others for it, which would end the watcher of a running proxy."""
    assert complaint(f"name: a\nmode: {value}\nmatch: {{}}\n").startswith("p.yaml:2: expected YAML, got: ")


def test_a_place_that_cannot_be_looked_at_is_told() -> None:
    """The system's own complaint, here a name that is too long, becomes ours."""
    with pytest.raises(PolicyError, match="expected a policy file or a folder of them, got File name too long"):
        find_policies([Path("x" * 300)])


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for an empty one, which would drop its policies from the others."""

    def refuse(place: object = ".") -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    # By patching, because root, who runs tests in containers, may read every folder.
    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(PolicyError) as caught:
        find_policies([tmp_path])

    assert str(caught.value) == f"{tmp_path}: expected a policy file or a folder of them, got Permission denied"
