"""As of gdown 6.0: whatever ends a download is a DownloadError; before, each was an Exception of its own."""


class DownloadError(Exception):
    pass


class FileURLRetrievalError(DownloadError):
    pass
