"""Options with odd values, and options that do not go together."""

import numpy as np
import pandas as pd
import torch
from unusual_input import QUICK, UnusualInput, write_features, write_images, write_labels

FEATURES = ["scan", "labels.csv", "--features", "features.npy", "--out", "out"]
TABLE = ["scan", "table.csv", "--tabular", "--out", "out"]
PREDICTIONS = ["scan", "labels.csv", "--pred-probs", "probs.npy", "--out", "out"]
IMAGES = ["scan", "photos", "--out", "out"]


def _make(command):
    """Write what a command reads: 60 samples in three classes, or 20 images in two."""

    def make(folder):
        if "photos" in command:
            write_images(folder / "photos")
            return command
        labels = write_features(folder)
        write_labels(folder, labels)
        features = np.load(folder / "features.npy")
        table = {"label": labels, **{f"x{i}": features[:, i] for i in range(4)}}
        pd.DataFrame(table).to_csv(folder / "table.csv", index=False)
        np.save(folder / "probs.npy", (0.1 + 0.7 * np.eye(3)[labels]).astype(np.float32))
        (folder / "a_file").write_text("not a folder\n")
        (folder / "a_folder").mkdir()
        (folder / "a_folder" / "mine.txt").write_text("kept\n")
        torch.save([1, 2], folder / "list.pth")
        (folder / "text.pth").write_text("not weights\n")
        return command

    return make


def _refused(name, base, options, message):
    return UnusualInput(name, _make([*base, *options.split()]), message=message)


def _written(folder, output):
    assert (folder / "out" / "suspects.csv").exists()
    assert "Traceback" not in output


def _works(name, base, options, check=_written):
    return UnusualInput(name, _make([*base, *options.split()]), check=check)


NUMBERS = [
    # option, value, message
    ("epochs", "0", "--epochs is 0; it must be 1 or more"),
    ("epochs", "-3", "--epochs is -3"),
    ("epochs", "1.5", r"'--epochs': .*valid integer"),
    ("epochs", "nan", r"'--epochs': .*valid integer"),
    ("epochs", "many", r"'--epochs': .*valid integer"),
    ("epochs", "1" + 2000 * "0", "--epochs has more than 1000 digits"),
    ("batch-size", "0", "--batch-size is 0; it must be 2 or more"),
    ("batch-size", "1", "--batch-size is 1"),
    ("batch-size", "-20", "--batch-size is -20"),
    ("batch-size", "inf", r"'--batch-size': .*valid integer"),
    ("seed", "-1", "--seed is -1; it must be 0 or more"),
    ("seed", "0.5", r"'--seed': .*valid integer"),
    ("seed", "1" + 2000 * "0", "--seed has more than 1000 digits"),
    ("seed", "-1" + 100 * "0", "--seed is -10+; it must be 0 or more"),
    ("time-budget", "0", "--time-budget is 0.0 minutes; it must be above 0"),
    ("time-budget", "-1", "--time-budget is -1.0 minutes"),
    ("time-budget", "nan", "--time-budget is nan; give a number"),
    ("time-budget", "inf", "--time-budget is inf; give a number"),
    ("time-budget", "1h", "'--time-budget': .*valid number|'--time-budget': '1h'"),
    ("max-suspects", "-1", "--max-suspects is -1; it must be 0 or more"),
    ("threshold", "top:-1", "threshold 'top:-1' is not understood"),
    ("threshold", "top:2.5", "threshold 'top:2.5' is not understood"),
    ("threshold", "rate:1.5", "threshold 'rate:1.5' is not understood"),
    ("threshold", "rate:nan", "threshold 'rate:nan' is not understood"),
    ("threshold", "nan", "threshold 'nan' is not understood"),
    ("threshold", "-0.5", "threshold '-0.5' is not understood"),
    ("threshold", "50%", "threshold '50%' is not understood"),
    ("score", "entropy", "there is no --score 'entropy'; choose one of auto"),
    ("device", "gpu", "device 'gpu' cannot be used here; use --device auto"),
    ("device", "cuda:99", "device 'cuda:99' cannot be used here"),
    ("device", "meta", "device 'meta' cannot be used here"),
]

TOGETHER = [
    # name, base, options, message
    ("images options with features", FEATURES, "--encoder mlp", "--encoder is for images; leave"),
    ("an image size with features", FEATURES, "--image-size 8", "--image-size is for images"),
    ("mirrored features", FEATURES, "--flip", "--flip is for images"),
    ("features and a table of features", FEATURES, "--tabular", "use one of them"),
    ("an encoder with a table", TABLE, "--encoder resnet18", "--encoder is for images"),
    ("an image column with a table of features", TABLE, "--image-column x0", "image"),
    ("epochs with predictions", PREDICTIONS, "--epochs 3", "--epochs has no effect"),
    ("a score with predictions", PREDICTIONS, "--score epsilon", "--score has no effect"),
    ("a table of features with predictions", PREDICTIONS, "--tabular", "--tabular has no effect"),
    ("predictions cannot be resumed", PREDICTIONS, "--resume", "cannot be resumed"),
    ("force and resume", FEATURES, "--force --resume", "give only one of them"),
    ("weights without a network", IMAGES, "--weights w.pth", "name the pretrained network"),
    ("weights of a network that is trained here", IMAGES, "--encoder mlp --weights w.pth",
     "are for a pretrained network"),
    ("fine-tuning of a network that is trained here", IMAGES, "--encoder mlp --fine-tune",
     "--fine-tune needs a pretrained network"),
    ("a frozen network and mirrored images", IMAGES,
     "--encoder resnet18 --weights DEFAULT --flip", "leave --flip out, or add --fine-tune"),
    ("an unknown encoder", IMAGES, "--encoder resnet19", "unknown encoder 'resnet19'.*resnet18"),
    ("an encoder in another case", IMAGES, "--encoder MLP", "unknown encoder 'MLP'"),
    ("an empty encoder", IMAGES, "--encoder=", "unknown encoder ''"),
    ("an encoder of timm that does not exist", IMAGES, "--encoder timm:nonsense", "timm"),
    ("an image too small for its encoder", IMAGES, "--encoder conv13", "use --encoder mlp"),
    ("an image size of zero", IMAGES, "--image-size 0", "--image-size is 0"),
    ("weights that do not exist", IMAGES, "--encoder resnet18 --weights no.pth",
     "no.pth does not exist"),
    ("a column that does not exist", FEATURES, "--label-column lable", "lable"),
    ("a column of ids without data that has ids", IMAGES, "--id-column id", "--id-column"),
    ("an unknown option", FEATURES, "--epoch 3", "No such option"),
    ("the output is a file", [*FEATURES[:-1], "a_file"], "", "a_file exists and was not written by"),
    ("the output is a folder of somebody else", [*FEATURES[:-1], "a_folder"], "",
     "a_folder exists"),
    ("the output lies below a file", [*FEATURES[:-1], "a_file/out"], "", "a_file"),
    ("the output is on a read-only file system", [*FEATURES[:-1], "/proc/out"], "", "/proc"),
]  # fmt: skip

OTHER_COMMANDS = [
    # name, command, message
    ("a demo with a rate above 1", "demo --rate 1.5 --out out", "rate"),
    ("a demo with a negative rate", "demo --rate -0.1 --out out", "rate"),
    ("a demo with a rate that is no number", "demo --rate nan --out out", "rate"),
    ("a demo with a negative seed", "demo --seed -5 --out out", "seed"),
    ("features by an unknown network", "embed photos --encoder mlp", "mlp"),
    ("features to a file that is not parquet", "embed photos --encoder resnet18 --out f.csv",
     "name it .parquet"),
    ("features into a folder that is not there", "embed photos --encoder resnet18 --out no/f.parquet",
     "its folder does not exist"),
    ("features with an image size of zero",
     "embed photos --encoder resnet18 --weights DEFAULT --image-size 0", "size"),
    ("features with a negative image size",
     "embed photos --encoder resnet18 --weights DEFAULT --image-size -4", "size"),
    ("features on a device that is not there", "embed photos --encoder resnet18 --device cuda:99",
     "device 'cuda:99' cannot be used here"),
    ("features of a source that is not there", "embed nothing --encoder resnet18",
     "nothing does not exist"),
    ("weights that are a text", "embed photos --encoder resnet18 --weights text.pth", "text.pth"),
    ("weights that are a list", "embed photos --encoder resnet18 --weights list.pth", "list.pth"),
    ("an unknown method", "eval digits --method magic --out out", "magic"),
    ("an unknown kind of noise", "eval digits --noise salt --out out", "salt"),
    ("a rate that is a word", "eval digits --rate half --out out", "--rate half is not a list"),
    ("a rate above 1", "eval digits --rate 1.5 --out out", "1.5"),
    ("a rate that is not a number", "eval digits --rate nan --out out", "nan"),
    ("a negative rate", "eval digits --rate -0.2 --out out", "-0.2"),
    ("no seeds", "eval digits --seeds 0 --out out", "seeds"),
    ("a negative number of seeds", "eval digits --seeds -2 --out out", "seeds"),
    ("a negative first seed", "eval digits --first-seed -1 --out out", "seed"),
    ("no jobs", "eval digits --jobs 0 --out out", "jobs"),
    ("a negative number of labels", "eval digits --num-labeled -1 --out out", "num-labeled|labels"),
    ("no training images", "eval digits --limit 0 --out out", "limit"),
    ("a negative limit", "eval digits --limit -5 --out out", "limit"),
    ("no epochs in an evaluation", "eval digits --epochs 0 --out out", "--epochs is 0"),
    ("a batch of one in an evaluation", "eval digits --batch-size 1 --out out", "--batch-size is 1"),
    ("an unknown experiment", "eval --protocol table9 --out out", "table9"),
    ("an unknown data set", "eval nonsense --out out", "nonsense"),
    ("scores that are not there", "eval digits --scores none.csv", "none.csv does not exist"),
    ("the review of a run that is not there", "review nothing --no-browser", "nothing"),
    ("the review of a folder of somebody else", "review a_folder --no-browser", "a_folder"),
    ("the review of a file", "review a_file --no-browser", "a_file"),
    ("a port out of range", "review a_folder --port 99999", "'--port': Input should be less"),
    ("the report of a folder of somebody else", "report a_folder", "a_folder"),
    ("corrections that are not there", "apply labels.csv nothing.csv", "nothing.csv"),
    ("corrections without decisions", "apply labels.csv table.csv", "table.csv"),
    ("an export of a folder of somebody else", "export a_folder --to csv", "a_folder"),
    ("an export without a tool", "export a_folder", "--to"),
    ("an export to an unknown tool", "export a_folder --to excel", "excel|a_folder"),
    ("differences of folders that are no runs", "diff a_folder a_folder", "a_folder"),
]  # fmt: skip

ROWS = [
    *[
        _refused(f"--{name} {value[:12]}{'…' if len(value) > 12 else ''}", FEATURES,
                 f"--{name} {value}", message)
        for name, value, message in NUMBERS
    ],
    *[_refused(*row) for row in TOGETHER],
    *[
        UnusualInput(name, _make(command.split()), message=message)
        for name, command, message in OTHER_COMMANDS
    ],
    _works("a seed of 201 bits", FEATURES, f"--epochs 1 --seed {2**200}"),
    _works("a batch larger than the data", FEATURES, "--epochs 1 --batch-size 100000000000000000000"),
    _works("batches of two", [*IMAGES[:2], *QUICK], "--batch-size 2"),
    _works("more suspects than labels", PREDICTIONS, "--threshold top:99999999999999999999"),
    _works("no suspects", PREDICTIONS, "--threshold top:0 --max-suspects 0"),
]  # fmt: skip
