"""What is shown to others: cards, marks, and whether a picture is what it says."""
