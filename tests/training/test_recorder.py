import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from labelaudit import EpsilonHistory, EpsilonRecorder, OptionError, SourceError
from labelaudit.training.recorder import write_part

IDS = ["a.png", "b/ü.png", "c.png", "d.png", "e.png"]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(8, 3))  # fmt: skip


def samples():
    torch.manual_seed(1)
    inputs, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    return inputs, labels, [(inputs[:3], labels[:3], IDS[:3]), (inputs[3:], labels[3:], IDS[3:])]


def train(model, recorder, steps):
    inputs, labels, _ = samples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.update()


def test_recorder_writes_what_its_docs_say(tmp_path):
    model = make_model()
    recorder = EpsilonRecorder(tmp_path / "epsilon", model, ema_decay=0.9)
    inputs, labels, batches = samples()
    for epoch in (1, 2, 3):
        train(model, recorder, 4)
        path = recorder.record(epoch, batches)
        table = pq.read_table(path)
        assert table.column_names == [
            "sample_id", "epoch", "epsilon", "learner_prob", "guider_prob",
        ]  # fmt: skip
        assert table["sample_id"].to_pylist() == IDS
        assert table["epoch"].to_pylist() == [epoch] * 5

    assert model.training  # as it was
    model.eval()
    rows = torch.arange(5)
    learner = model(inputs).softmax(1)[rows, labels].detach().numpy()
    guider = recorder.guider(inputs).softmax(1)[rows, labels].numpy()
    last = recorder.history().read(3)
    np.testing.assert_allclose(last["learner_prob"], learner, rtol=1e-5)
    np.testing.assert_allclose(last["guider_prob"], guider, rtol=1e-5)
    np.testing.assert_allclose(last["epsilon"], np.abs(guider - learner), rtol=1e-3, atol=1e-7)
    assert last["epsilon"].max() > 0


def test_recorded_passes_have_no_dropout(tmp_path):
    recorder = EpsilonRecorder(tmp_path, make_model())
    _, _, batches = samples()
    train(recorder.model, recorder, 3)
    recorder.record(1, batches)
    recorder.record(2, batches)
    history = recorder.history()
    np.testing.assert_array_equal(history.read(1)["learner_prob"], history.read(2)["learner_prob"])


def test_recording_leaves_each_module_in_its_mode(tmp_path):
    model = make_model().train()
    model[1].eval()  # batch norm that is frozen
    recorder = EpsilonRecorder(tmp_path, model)
    inputs, _, batches = samples()
    recorder.record(1, batches)
    modes = [module.training for module in model]
    assert modes == [True, False, True, True, True]
    with pytest.raises(SourceError):
        recorder.record(1, [(inputs, torch.full((5,), 7), IDS)])
    assert [module.training for module in model] == modes


def test_epochs_of_an_earlier_training_are_not_mixed_in(tmp_path):
    recorder = EpsilonRecorder(tmp_path, make_model())
    for epoch in (1, 2, 3, 1, 2):
        recorder.record(epoch, samples()[2])
    assert list(recorder.history().epochs) == [1, 2]


def test_guider_averages_parameters_and_running_statistics(tmp_path):
    model = make_model()
    recorder = EpsilonRecorder(tmp_path, model, ema_decay=0.75)
    train(model, recorder, 1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, recorder, 1)
    after, guider = model.state_dict(), recorder.guider.module.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var", "4.bias"):
        torch.testing.assert_close(guider[name], 0.75 * before[name] + 0.25 * after[name])


def test_history_reads_an_epoch_at_a_time_and_can_leave_out_the_last(tmp_path):
    for epoch in (1, 2, 10):
        write_part(tmp_path, epoch, IDS, np.full(5, 0.1 * epoch), np.full(5, 0.05))
    history = EpsilonHistory(tmp_path)
    assert history.epochs == [1, 2, 10]
    assert history.sample_ids() == IDS
    assert [epoch for epoch, _ in history] == [1, 2, 10]
    assert EpsilonHistory(tmp_path, last_epoch=2).epochs == [1, 2]
    frame = history.frame()
    assert len(frame) == 15
    np.testing.assert_allclose(frame.groupby("epoch")["epsilon"].first(), [0.05, 0.15, 0.95])
    with pytest.raises(KeyError, match="epoch 3"):
        history.read(3)


def test_a_part_is_replaced_whole(tmp_path):
    write_part(tmp_path, 1, IDS, np.zeros(5), np.zeros(5))
    write_part(tmp_path, 1, IDS, np.ones(5), np.zeros(5))
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-00001.parquet"]
    np.testing.assert_array_equal(EpsilonHistory(tmp_path).read(1)["epsilon"], np.ones(5))


def test_bad_input_is_told_in_words(tmp_path):
    with pytest.raises(OptionError, match="ema_decay"):
        EpsilonRecorder(tmp_path, make_model(), ema_decay=1.0)
    recorder = EpsilonRecorder(tmp_path, make_model())
    with pytest.raises(SourceError, match="no samples"):
        recorder.record(1, [])
    with pytest.raises(SourceError, match="classes 0 to 2"):
        recorder.record(1, [(torch.randn(2, 4), torch.tensor([0, 3]), ["a", "b"])])
    assert list(tmp_path.iterdir()) == []
