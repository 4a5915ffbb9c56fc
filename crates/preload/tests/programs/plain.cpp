// A program that has nothing to do with devices: files, directories, threads, a child, an exception, a handler. What it prints is the same
// under a machine.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;

static volatile std::sig_atomic_t handled;

int main(int, char **argv) {
    std::ios::sync_with_stdio(false);
    fs::path folder = fs::path(argv[1]) / "plain";
    fs::create_directories(folder / "a" / "b");
    for (int file = 0; file < 20; file++)
        std::ofstream(folder / "a" / std::to_string(file)) << "file " << file << '\n';
    fs::create_symlink("a", folder / "link");
    fs::rename(folder / "a" / "3", folder / "a" / "b" / "three");
    fs::resize_file(folder / "a" / "4", 2);
    std::vector<std::string> names;
    for (const auto &entry : fs::recursive_directory_iterator(folder))
        names.push_back(fs::relative(entry.path(), folder).string() + (entry.is_symlink() ? "@" : entry.is_directory() ? "/" : ""));
    std::sort(names.begin(), names.end());
    for (const auto &name : names)
        std::cout << name << ' ';
    std::ifstream stream(folder / "a" / "b" / "three");
    std::string line;
    std::getline(stream, line);
    std::cout << '\n' << line << ' ' << fs::file_size(folder / "a" / "4") << ' ' << fs::canonical(folder / "link").filename() << '\n';

    std::atomic<long> sum{0};
    std::vector<std::thread> threads;
    for (int part = 0; part < 8; part++)
        threads.emplace_back([&, part] {
            for (int round = 0; round < 100; round++) {
                void *memory = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                static_cast<char *>(memory)[part] = 1;
                sum += static_cast<char *>(memory)[part];
                munmap(memory, 1 << 16);
            }
        });
    for (auto &thread : threads)
        thread.join();
    std::cout << sum << std::endl;

    if (pid_t child = fork(); child == 0) {
        std::cout << "child\n" << std::flush;
        _exit(3);
    } else {
        int status;
        waitpid(child, &status, 0);
        std::cout << WEXITSTATUS(status) << '\n';
    }
    std::signal(SIGUSR1, [](int signal) { handled = signal; });
    std::raise(SIGUSR1);
    try {
        throw std::runtime_error("caught");
    } catch (const std::exception &error) {
        std::cout << error.what() << ' ' << (handled == SIGUSR1) << '\n';
    }
    std::cout << (fs::exists("/dev/null") ? "null " : "") << fs::current_path().is_absolute() << '\n';
    fs::remove_all(folder);
}
