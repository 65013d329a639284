"""Results as text for the console."""

from reports import columns


def results_table(results):
    """Results in their groups (quality, people never seen, codes, cost), one a line."""
    groups = columns.grouped(results)
    titles = [title for rows in groups.values() for _, title, _ in rows]
    width = max(map(len, titles)) if titles else 0
    lines = []
    for group, rows in groups.items():
        lines.append(group)
        # Numbers that compare stand in a column; what is no number follows the title.
        numbers = max([len(text) for name, _, text in rows if _is_number(name)] or [0])
        lines += ["  %s  %s" % (title.ljust(width), text.rjust(numbers)
                                if _is_number(name) else text) for name, title, text in rows]
    return "\n".join(line.rstrip() for line in lines)


def comparison_table(results):
    """Runs beside one another, one a row, the highest mAP first; * marks the best of a column.

    Args:
        results: OrderedDict of name -> results.
    """
    names, rows = columns.comparison(results)
    prefix, shortened = columns.without_common_folder(list(results))
    shortened = dict(zip(results, shortened))
    head = ["#"] + [columns.column(name).short for name in names]
    body = [[str(row.place)] + [(cell.text or "-") + ("*" if cell.best else " ")
                                for cell in row.cells] for row in rows]
    head = head[:1] + [title + " " for title in head[1:]]
    widths = [max(map(len, texts)) for texts in zip(head, *body)]
    # The name comes last: it may hold letters of any width.
    lines = ["%s  %s" % (" ".join(text.rjust(width) for text, width in zip(texts, widths)), name)
             for texts, name in zip([head] + body, ["run"] + [shortened[row.name]
                                                              for row in rows])]
    if prefix:
        lines.append("runs in %s" % prefix)
    return "\n".join(lines)


def _is_number(name):
    return columns.column(name).kind != "text"
