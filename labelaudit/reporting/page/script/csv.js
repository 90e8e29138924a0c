// corrections.csv, with the same bytes that labelaudit.reporting.tables.write_csv writes.

const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;

function cell(text) {
  const guarded = (FORMULA.test(text) && !NUMBER.test(text)) || text.startsWith("'");
  return `"${(guarded ? "'" : "") + text.replace(/"/g, '""')}"`;
}

function correctionsCsv() {
  const lines = ['"sample_id","decision","corrected_label","note","reviewer","reviewed_at","given_label"'];
  for (const at of [...decisions.keys()].sort((a, b) => a - b)) {
    const s = decisions.get(at);
    if (s.decision || s.note) {
      // An earlier decision was about the label at that time.
      const given = s.given || (suspects.given[at] < 0 ? "" : index.classes[suspects.given[at]]);
      lines.push([suspects.id[at], s.decision, s.label, s.note, s.reviewer, s.at, given].map(cell).join(","));
    }
  }
  for (const row of unlisted) {
    lines.push([row.sample_id, row.decision, row.corrected_label, row.note, row.reviewer, row.reviewed_at, row.given_label || ""].map(cell).join(","));
  }
  return `${lines.join("\n")}\n`;
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([correctionsCsv()], { type: "text/csv" }));
  link.download = "corrections.csv";
  document.body.append(link);
  link.click();
  link.remove();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  tell("corrections.csv was downloaded. Next: labelaudit apply LABELS corrections.csv");
}
