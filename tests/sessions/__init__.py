"""Sessions at the terminal, written down as a person sees them, and played against a running `regsvc dev`.

A line `$ …` is a command, `> …` goes on with it, what follows is what it prints on either stream, and a last line
`[1]` is its exit code if that is not 0. `…` in a line stands for anything, a line of nothing else for any lines.
A line `# …` is a remark. All commands of a session run in one shell, so that later ones know earlier ones' variables.
"""
