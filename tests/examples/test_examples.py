import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_your_own_loop_ranks_planted_errors_above_chance(capsys):
    auroc = load("your_own_loop").main(epochs=8)
    assert auroc > 0.9
    assert "8 epochs recorded" in capsys.readouterr().out


def test_arrays_in_a_notebook_finds_planted_errors(capsys):
    result = load("arrays_in_a_notebook").main(epochs=12)
    assert 60 < result.summary["num_suspects"] < 400  # 180 are wrong
    assert "sample_id" in capsys.readouterr().out


def test_every_example_is_run_by_a_test():
    tested = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'load("{example.stem}")' in tested, example.name
