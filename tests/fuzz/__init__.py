"""Looking for bytes that raise, hang, or fill the memory, in every framer, decoder and protocol there is.

- `test_properties.py`: hypothesis puts the pieces of real messages together.
- `test_hostile.py`: long runs of what is awkward, in a process of their own whose memory is measured.
- `test_atheris.py`, and `make fuzz` for longer: atheris follows the branches of the code.

`targets.py` finds what is registered; a new format needs nothing here but a corpus (tests/corpus).
"""
