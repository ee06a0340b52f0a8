"""How does a YAML file become a Policy, and where exactly is it wrong?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from echo_proxy.errors import PolicyError
from echo_proxy.policy import Policy


class _PolicyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, which plain YAML overwrites silently, and names the line of an odd value."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
            if isinstance(made, int):
                str(made)  # beyond 4,300 digits Python refuses, and so would every complaint about the value
        except (ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # PyYAML's constructors trust the text: `0x_`, `!!bool x`, `!!timestamp x` and `1:1:...:1.5` raise these.
            problem = f"a value that cannot be read: {error}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        return made

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_policy(path: Path) -> Policy:
    """The policy in a file. Raises PolicyError with file, line, field, expected and got."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: expected a readable policy file, got {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyError(f"{path}:{line}: expected UTF-8, got byte 0x{error.object[error.start]:02x}") from error
    return parse_policy(text, str(path))


def parse_policy(text: str, source: str) -> Policy:
    """The policy in a YAML text; `source` names it in errors."""
    try:
        loader = _PolicyLoader(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{source}:{line}: expected YAML, got: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise PolicyError(f"{source}:{line}: expected YAML, got: {error.reason}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # the scanner's: "\UFFFFFFFF", [[[[... without end
        raise PolicyError(f"{source}:{loader.line + 1}: expected YAML, got: {error}") from error
    if node is None or not isinstance(content, Mapping):
        raise PolicyError(
            f"{source}:1: expected a mapping with name, match, arms, bandit; got {type(content).__name__}"
        )
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        raise PolicyError("\n".join(_complaint(source, node, item) for item in error.errors())) from error


def find_policies(places: Sequence[Path]) -> tuple[Path, ...]:
    """Files named, and every *.yaml of folders named, in order. Raises PolicyError when a place cannot be read."""
    found: list[Path] = []
    for place in places:
        try:
            found += _policies_in(place)
        except OSError as error:
            raise PolicyError(f"{place}: expected a policy file or a folder of them, got {error.strerror}") from error
    return tuple(found)


def _policies_in(place: Path) -> list[Path]:
    if place.is_dir():
        # Not glob: it takes a folder that may not be read for an empty one.
        return sorted(path for path in place.iterdir() if path.match("*.yaml"))
    if place.is_file():
        return [place]
    raise PolicyError(f"{place}: expected a policy file or a folder of them, got nothing there")


def load_policies(places: Sequence[Path]) -> tuple[Policy, ...]:
    """All policies of the places. Raises PolicyError, also when two share a name or a model group."""
    policies: list[Policy] = []
    owners: dict[str, Path] = {}
    for path in find_policies(places):
        policy = load_policy(path)
        for claim in (f"name {policy.name}", *(f"model group {group}" for group in policy.match.model_groups)):
            if claim in owners:
                raise PolicyError(f"{path}: {claim} is taken by {owners[claim]}; expected each in one policy only")
            owners[claim] = path
        policies.append(policy)
    if not policies:
        raise PolicyError(f"expected at least one policy file in {', '.join(map(str, places)) or 'no place'}, got none")
    return tuple(policies)


def _complaint(source: str, root: yaml.Node, item: Any) -> str:
    path = _path_in_file(root, item["loc"])
    field = ".".join(str(part) for part in path) or "policy"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "no such key is known here"
    got = item.get("input")
    shown = "" if item["type"] in ("missing", "extra_forbidden", "value_error") else f", got {got!r}"
    return f"{source}:{_line_of(root, path)}: {field}: {message}{shown}"


def _path_in_file(root: yaml.Node, loc: Sequence[str | int]) -> Sequence[str | int]:
    """Pydantic puts the chosen `kind` into an error's path; the file has no such level."""
    node: yaml.Node | None = root
    path: list[str | int] = []
    for part in loc:
        if isinstance(node, yaml.MappingNode) and part == _kind_of(node):
            continue
        path.append(part)
        node = _child(node, part)
    return path


def _kind_of(node: yaml.MappingNode) -> str | None:
    return next((value.value for key, value in node.value if key.value == "kind"), None)


def _child(node: yaml.Node | None, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        child: yaml.Node = node.value[part]
        return child
    return None


def _line_of(root: yaml.Node, path: Sequence[str | int]) -> int:
    node, line = root, root.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
