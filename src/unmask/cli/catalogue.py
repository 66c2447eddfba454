"""unmask list recipes|samplers|revisions|models."""

from collections.abc import Callable, Mapping, Sequence

from unmask.cli.options import Parser, print_json
from unmask.pretrained import shipped_models
from unmask.recipes import recipe_names, recipe_text
from unmask.sampling.revisions import REVISIONS
from unmask.sampling.samplers import SAMPLERS
from unmask.sampling.spec import example, parameters


def run(argv: Sequence[str]) -> int:
    """List."""
    parser = Parser("list", "What there is to choose from.")
    parser.add_argument("what", choices=("recipes", "samplers", "revisions", "models"))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse(argv)
    match arguments.what:
        case "recipes":
            # a recipe's first comment says what it is for
            found = {name: recipe_text(name).splitlines()[0].removeprefix("# ") for name in recipe_names()}
        case "samplers":
            found = described(SAMPLERS)
        case "revisions":
            found = described(REVISIONS)
        case _:
            found = dict.fromkeys(shipped_models(), "shipped with the package")
    if arguments.json:
        print_json(found)
        return 0
    width = max(map(len, found), default=0)
    for name, text in found.items():
        print(f"{name:<{width}}  {text}")
    if not found:
        print("none are shipped: train one with unmask demo")
    return 0


def described(table: Mapping[str, Callable[..., object]]) -> dict[str, str]:
    """Each name with its settings and what it does."""
    first_lines = {name: (builder.__doc__ or "").splitlines()[0] for name, builder in table.items()}
    return {example(name, parameters(builder)): first_lines[name] for name, builder in table.items()}
