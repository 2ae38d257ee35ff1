"""Numbers of Ma et al., EMNLP 2025: Table 2 and its appendix, and the findings of section 4."""

# Data and model -> method -> NLL, L1, example-F1 on 200 test documents.
TABLE = {
    ("GoEmotions", "70B"): {
        "compare-to-none": (23.93, 4.71, 0.27),
        "hard predictions": (24.11, 1.31, 0.39),
        "unary breakdown": (3.60, 1.32, 0.43),
        "binary breakdown": (7.62, 2.64, 0.41),
        "max-over-generations": (4.04, 1.27, 0.39),
        "encoder": (2.72, 0.63, 0.64),
        "linear probe": (2.42, 0.71, 0.56),
    },
    ("GoEmotions", "8B"): {
        "compare-to-none": (33.58, 5.42, 0.21),
        "hard predictions": (27.47, 1.49, 0.32),
        "unary breakdown": (4.99, 3.21, 0.29),
        "binary breakdown": (4.84, 3.18, 0.23),
        "max-over-generations": (3.00, 1.44, 0.34),
        "linear probe": (2.57, 0.70, 0.57),
    },
    ("MFRC", "70B"): {
        "compare-to-none": (5.34, 1.85, 0.51),
        "hard predictions": (19.70, 1.07, 0.59),
        "unary breakdown": (2.49, 1.27, 0.51),
        "binary breakdown": (3.55, 2.11, 0.41),
        "max-over-generations": (2.32, 0.92, 0.63),
        "encoder": (3.00, 0.43, 0.82),
        "linear probe": (2.81, 0.44, 0.81),
    },
    ("MFRC", "8B"): {
        "compare-to-none": (20.23, 4.82, 0.23),
        "hard predictions": (40.79, 2.21, 0.26),
        "unary breakdown": (5.29, 3.03, 0.22),
        "binary breakdown": (8.33, 3.83, 0.23),
        "max-over-generations": (2.87, 1.58, 0.39),
        "linear probe": (2.49, 0.39, 0.83),
    },
    ("HateXplain", "70B"): {
        "compare-to-none": (1.66, 0.81, 0.58),
        "hard predictions": (9.86, 0.90, 0.58),
        "unary breakdown": (0.91, 0.94, 0.47),
        "binary breakdown": (1.12, 1.06, 0.29),
        "encoder": (2.69, 0.73, 0.66),
    },
}


def columns_for(data):
    """Return the columns (data, model) of the table that speak about `data`."""
    return [column for column in TABLE if column[0] == data]


def cell(column, method):
    """Write the paper's numbers of a method, or a dash."""
    numbers = TABLE[column].get(method)
    return "-" if numbers is None else " / ".join(f"{n:.2f}" for n in numbers)
