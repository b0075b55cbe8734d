"""What a person does, one flow a file: called alike by the API, the pages, the console and the commands."""
